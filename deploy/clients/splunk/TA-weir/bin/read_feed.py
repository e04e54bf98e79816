#!/usr/bin/env python3
"""Read weir's feed: print each row as a line of JSON and remember the cursor.

For Splunk (a scripted input), Vector (a source exec) and anything else that
reads lines from a program. It needs Python 3 and nothing besides.

    read_feed.py URL STATE_FILE [--follow] [--ca FILE] [--heartbeat]

URL is that of a feed, like https://weir.example.com:7380/api/v1/feed/alerts.
The token is in the environment, WEIR_TOKEN, or in the file that WEIR_TOKEN_FILE
names. The cursor is written to STATE_FILE once a page is printed: a page may be
printed twice after a crash, so deduplicate by id and revision. Without --follow
it ends when there is nothing more.
"""
import argparse
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request


def read_token():
    path = os.environ.get("WEIR_TOKEN_FILE")
    if path:
        with open(path, encoding="ascii") as f:
            return f.read().strip()
    return os.environ.get("WEIR_TOKEN", "")


def read_cursor(path):
    try:
        with open(path, encoding="ascii") as f:
            return f.read().strip()
    except FileNotFoundError:
        return ""


def write_cursor(path, cursor):
    with open(path + ".new", "w", encoding="ascii") as f:
        f.write(cursor + "\n")
        f.flush()
        os.fsync(f.fileno())
    os.replace(path + ".new", path)


def ask(args, context, cursor):
    """Return the lines of a page, the next cursor and whether there is more."""
    query = {"limit": "500"}
    if args.follow:
        query["wait"] = "30"
    if args.heartbeat:
        query["heartbeat"] = "true"
    if cursor:
        query["cursor"] = cursor
    headers = {"Accept": "application/x-ndjson"}
    token = read_token()
    if token:
        headers["Authorization"] = "Bearer " + token
    request = urllib.request.Request(args.url + "?" + urllib.parse.urlencode(query), headers=headers)
    with urllib.request.urlopen(request, timeout=90, context=context) as answer:
        return answer.read().decode(), answer.headers["X-Next-Cursor"], answer.headers["X-Has-More"] == "true"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("state")
    parser.add_argument("--follow", action="store_true")
    parser.add_argument("--heartbeat", action="store_true")
    parser.add_argument("--ca")
    args = parser.parse_args()
    context = ssl.create_default_context(cafile=args.ca) if args.url.startswith("https:") else None
    cursor, failures = read_cursor(args.state), 0
    while True:
        try:
            lines, cursor, more = ask(args, context, cursor)
            sys.stdout.write(lines)
            sys.stdout.flush()
            write_cursor(args.state, cursor)
            failures = 0
            if not more and not args.follow:
                return 0
            continue
        except urllib.error.HTTPError as e:
            wait = e.headers.get("Retry-After")
            if e.code == 410:  # retention passed this reader: say so and go on with what is left
                problem = json.load(e)
                print(json.dumps({"schema": "weir.gap/1", "detail": problem["detail"]}), flush=True)
                cursor = problem["oldest_cursor"]
                write_cursor(args.state, cursor)
                continue
            print("read_feed: %s: HTTP %d" % (args.url, e.code), file=sys.stderr)
            if e.code in (400, 401, 403) or not args.follow:
                return 1
        except (OSError, ValueError) as e:
            wait = None
            print("read_feed: %s: %s" % (args.url, e), file=sys.stderr)
            if not args.follow:
                return 1
        failures += 1
        time.sleep(float(wait) if wait else min(60, 2 ** min(failures, 6)))


if __name__ == "__main__":
    sys.exit(main())
