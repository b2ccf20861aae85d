"""Two ends of one stream in one process: a line of text each way, and a half-close between."""

import threading

from flare import BufReader, UnixStream


def count_words(end: UnixStream) -> None:
    """Answer each line with its number of words, until the other side has said everything."""
    with end:
        reader = BufReader(end)
        for line in reader:
            end.write_all(b"%d words\n" % len(line.split()))


def main() -> None:
    ours, theirs = UnixStream.pair()
    thread = threading.Thread(target=count_words, args=(theirs,))
    thread.start()
    with ours:
        ours.set_recv_timeout(10_000)
        for line in (b"one two three\n", b"four\n"):
            ours.write_all(line)
        ours.shutdown_write()  # we have said everything; the answers still come
        for answer in BufReader(ours):
            print(answer)
    thread.join()


if __name__ == "__main__":
    main()
