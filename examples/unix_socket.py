"""Two processes' worth of talk over a Unix socket: many requests at once on one connection."""

import tempfile
import threading
from pathlib import Path

from flare import UnixListener, UnixStream
from flare.uds import FrameKind, FrameMux


def serve(listener: UnixListener) -> None:
    """Answer one client: each request's text in capitals."""
    with FrameMux(listener.accept()) as mux:
        while mux.pump():
            for request in mux.ready():
                while frame := mux.poll(request):
                    if frame.kind == FrameKind.CHUNK:
                        mux.send_chunk(request, frame.payload.upper())
                    elif frame.kind == FrameKind.DONE:
                        mux.done(request)
            mux.flush()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "example.sock"
        with UnixListener.bind_with_options(path, mode=0o600) as listener:
            server = threading.Thread(target=serve, args=(listener,))
            server.start()
            with FrameMux(UnixStream.connect(path, timeout_ms=2000)) as mux:
                requests = {mux.next_id(): text for text in (b"one", b"two", b"three")}
                for request, text in requests.items():
                    mux.open(request)
                    mux.send_chunk(request, text)
                    mux.done(request)
                mux.flush()
                while any(mux.pending(request) < 2 for request in requests) and mux.pump():
                    pass
                for request, text in requests.items():
                    if frame := mux.poll(request):
                        print(f"{text.decode()} -> {frame.payload.decode()}")
            server.join()
        print("socket file removed:", not path.exists())


if __name__ == "__main__":
    main()
