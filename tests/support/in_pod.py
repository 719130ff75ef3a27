"""Runs ``tars-registry`` as a pod's container does, with its service account in another folder than in a pod.

    python -m tests.support.in_pod FOLDER ARGUMENT…

FOLDER holds token, ca.crt and namespace. That they are looked for there is all that is not as in a pod.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kubernetes_asyncio.config import incluster_config

from registry.cli import main
from registry.kube import client

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    incluster_config.SERVICE_TOKEN_FILENAME = str(folder / "token")
    incluster_config.SERVICE_CERT_FILENAME = str(folder / "ca.crt")
    client._SERVICE_ACCOUNT = folder  # type: ignore[misc]  # the place is a constant to all others
    sys.exit(main(sys.argv[2:]))
