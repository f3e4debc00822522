"""Any language with stock generated code: Python with grpcio and code generated from the .proto files. The packages go into
a virtual environment in the build folder; without a network the test is skipped, not hung."""
import os
import subprocess
import sys

VENV = os.path.join(os.environ.get("TRILOG_BUILD", "build"), "e2e-venv")
GENERATED = os.path.join(VENV, "generated")
PROTO = os.environ.get("TRILOG_PROTO", os.path.join(os.path.dirname(__file__), "../../proto"))
SKIP = 77


def prepare():
    """Makes the environment once; returns its python, or None if the packages cannot be had."""
    python = os.path.join(VENV, "bin/python")
    marker = os.path.join(VENV, "ready")
    if not os.path.exists(marker):
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True, timeout=60)
        install = subprocess.run([python, "-m", "pip", "install", "-q", "--timeout", "15", "--retries", "1", "grpcio", "grpcio-tools"],
                                 capture_output=True, text=True, timeout=200, check=False)
        if install.returncode != 0:
            print("skipped: grpcio cannot be installed\n" + install.stderr[-500:])
            return None
    os.makedirs(GENERATED, exist_ok=True)
    subprocess.run([python, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"--python_out={GENERATED}", f"--grpc_python_out={GENERATED}",
                    "trilog/v1/broker.proto", "trilog/v1/admin.proto", "google/rpc/status.proto"], check=True, timeout=60)
    # grpcio's own google.rpc must not hide ours, nor ours the google.protobuf of the environment.
    open(marker, "w", encoding="utf-8").close()
    return python


if __name__ == "__main__":
    interpreter = prepare()
    if interpreter is None:
        sys.exit(SKIP)
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([GENERATED, os.path.dirname(os.path.abspath(__file__))]))
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "grpc_client_cases.py")
    sys.exit(subprocess.run([interpreter, script, *sys.argv[1:]], env=environment, timeout=280, check=False).returncode)
