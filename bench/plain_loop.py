"""Fork for each hook of each tree, and wait for it: `plain_loop.py BACKEND OUT TREE...`.

With `--modules` in front, the modules that hooks of the first tree import are imported before.
"""

import gc
import importlib
import os
import sys

HOOKS = ("get_requires_for_build_wheel", "prepare_metadata_for_build_wheel")


def run_hook(backend, hook, tree, out):
    os.chdir(tree)
    function = getattr(backend, hook, None)
    arguments = [out] if hook.startswith("prepare") else []
    if function is not None:
        function(*arguments)


def wait_for(pid):
    _, status = os.waitpid(pid, 0)
    if status != 0:
        sys.exit(f"process {pid} ended with status {status}")


def in_child(action):
    """Fork, and do that in the child. Returns its pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return pid


def import_modules_of_hooks(backend, tree, out):
    """Import what the hooks import."""
    out = os.path.join(out, "first")
    os.mkdir(out)
    reading, writing = os.pipe()
    before = set(sys.modules)

    def tell():
        for hook in HOOKS:
            run_hook(backend, hook, tree, out)
        names = [name for name in sys.modules if name not in before]
        os.write(writing, "\n".join(names).encode())

    pid = in_child(tell)
    os.close(writing)
    with os.fdopen(reading) as told:
        names = told.read().splitlines()
    wait_for(pid)
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            # It is none that can be imported by its name.
            pass


def main():
    arguments = sys.argv[1:]
    with_modules = arguments[0] == "--modules"
    module, out, *trees = arguments[1:] if with_modules else arguments
    backend = importlib.import_module(module)
    if with_modules:
        import_modules_of_hooks(backend, trees[0], out)
    gc.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()
    for tree in trees:
        for hook in HOOKS:
            # Called before the loop goes on.
            wait_for(in_child(lambda: run_hook(backend, hook, tree, out)))  # noqa: B023
    print("done")


main()
