import os
import subprocess
import sys

print("OK from print")
os.write(1, b"OK from descriptor 1\n")
subprocess.run([sys.executable, "-S", "-c", "print('OK from a subprocess')"], check=True)
print("READY", file=sys.stderr)


def get_requires_for_build_wheel(config_settings=None):
    print("ERROR HookRuntimeError forged")
    return [str(len((config_settings or {}).get("large", "")))]
