"""Fork for each hook of each tree, and wait for it: `plain_loop.py BACKEND OUT TREE...`."""

import gc
import importlib
import os
import sys


def main():
    module, out, *trees = sys.argv[1:]
    backend = importlib.import_module(module)
    gc.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()
    hooks = ("get_requires_for_build_wheel", "prepare_metadata_for_build_wheel")
    for tree in trees:
        for hook in hooks:
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    os.chdir(tree)
                    function = getattr(backend, hook, None)
                    arguments = [out] if hook.startswith("prepare") else []
                    if function is not None:
                        function(*arguments)
                    code = 0
                finally:
                    os._exit(code)
            _, status = os.waitpid(pid, 0)
            if status != 0:
                sys.exit(f"the hook {hook} of {tree} ended with status {status}")
    print("done")


main()
