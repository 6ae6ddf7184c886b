# SPDX-License-Identifier: MIT
"""Fetches one address again and again over a few connections and prints the rate: a client for `zeropool compare --server`.

usage: http_client.py PORT PATH [REQUESTS [CONNECTIONS]]
"""
import http.client
import sys
import threading
import time


def fetch(port, path, requests, failures):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        for _ in range(requests):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise OSError(f"status {answer.status}")
    except (OSError, http.client.HTTPException) as error:
        failures.append(f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def main(words):
    port, path = int(words[0]), words[1]
    requests, connections = (int(w) for w in (words[2:] + ["2000", "4"][len(words) - 2:])[:2])
    failures = []
    threads = [threading.Thread(target=fetch, args=(port, path, requests // connections, failures))
               for _ in range(connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit(failures[0])
    print(f"{requests // connections * connections / (time.perf_counter() - started):.1f} requests per second")


if __name__ == "__main__":
    main(sys.argv[1:])
