#!/usr/bin/env python3
"""Opens ten thousand watchers on one node of a cluster of three, puts, and sees whether each of them gets every change once, in order.

    Deploy/watchers.py                        10,000 watchers, 20 puts
    Deploy/watchers.py --watchers 500 --puts 100

Prints how long the changes take to all of them, the memory that the node takes of its own, and how fast it answers a new connection's
/livez meanwhile and after all watchers are dropped at once; and the same with as many idle connections. Ends with 1 where a change is missed or
seen twice, a request fails, or /livez takes longer than --patience. Needs python3 and .build/release/kontiki (Deploy/run.sh builds it), or another named in
KONTIKI_BINARY; everything else is made in a temporary folder.
"""
import argparse
import json
import os
import re
import resource
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

EVENT = re.compile(rb"id: (\d+)\nevent: (put|delete|expire)\n")
END = re.compile(rb"event: (end|compacted)\n")


def fail(text):
    print(text, file=sys.stderr)
    sys.exit(1)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def call(port, path, method="GET", body=None, timeout=30):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, method=method)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.read()


class Cluster:
    def __init__(self, program, folder):
        ports = free_ports(6)
        self.http, raft = ports[:3], ports[3:]
        self.nodes = []
        for number in range(3):
            beginning = ["--join", f"127.0.0.1:{raft[0]}"] if number else ["--bootstrap"]
            self.nodes.append(subprocess.Popen(
                [program, "serve", "--id", f"node{number + 1}", "--addr", f"127.0.0.1:{raft[number]}",
                 "--http", f"127.0.0.1:{self.http[number]}", "--data", f"{folder}/{number}", *beginning],
                stdout=open(f"{folder}/log{number}", "wb"), stderr=subprocess.STDOUT))
            self.await_ready(number)

    def await_ready(self, number):
        while True:
            try:
                call(self.http[number], "/readyz", timeout=2)
                return
            except OSError:
                if self.nodes[number].poll() is not None:
                    fail(f"node {number + 1} ended")
                time.sleep(0.05)

    def memory(self, number):
        """What the node takes of its own, in MB; the pages of its files are the kernel's cache."""
        with open(f"/proc/{self.nodes[number].pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024

    def stop(self):
        for node in self.nodes:
            node.kill()
            node.wait()


class Probe:
    """Asks for /livez again and again in a process of its own, each time on a new connection."""

    def __init__(self, port):
        self.reader, writer = os.pipe()
        self.child = os.fork()
        if self.child:
            os.close(writer)
            return
        # The connections of the parent would stay open with the copies.
        os.closerange(3, writer)
        os.closerange(writer + 1, 1 << 30)
        while True:
            start = time.monotonic()
            try:
                call(port, "/livez", timeout=120)
                error = 0
            except OSError:
                error = 1
            try:
                os.write(writer, struct.pack("<ddi", start, time.monotonic() - start, error))
            except OSError:
                os._exit(0)
            time.sleep(0.02)

    def end(self):
        """All (start, seconds, failed), once what is under way has come."""
        asked_until = time.monotonic()
        results = []
        while not results or results[-1][0] < asked_until:
            results.append(struct.unpack("<ddi", os.read(self.reader, 20)))
        os.kill(self.child, 9)
        os.waitpid(self.child, 0)
        os.close(self.reader)
        return results


class Run:
    def __init__(self, arguments, cluster):
        self.arguments, self.cluster = arguments, cluster
        self.slowest = 0

    def livez(self, what, probe):
        results = probe.end()
        failures = sum(failed for _, _, failed in results)
        times = sorted(seconds for _, seconds, _ in results)
        print(f"  /livez {what}: {times[len(times) // 2] * 1e3:.0f} ms in the median, {times[-1] * 1e3:.0f} ms at most, "
              f"of {len(times)}", flush=True)
        if failures:
            fail(f"/livez was not answered {failures} times")
        if times[-1] > self.arguments.patience:
            fail(f"/livez took longer than {self.arguments.patience} s")

    def connect(self, port, request):
        """As many connections, each with the request sent."""
        sockets = []
        for _ in range(self.arguments.watchers):
            each = socket.create_connection(("127.0.0.1", port), timeout=60)
            if request:
                each.sendall(request)
            each.setblocking(False)
            sockets.append(each)
        return sockets

    def receive(self, sockets, received, is_done, what):
        """Reads from all until `is_done` says so of each one's bytes."""
        poll = select.epoll(len(sockets))
        by_number = {each.fileno(): index for index, each in enumerate(sockets)}
        waiting = 0
        for each in sockets:
            if not is_done(received[by_number[each.fileno()]]):
                poll.register(each.fileno(), select.EPOLLIN)
                waiting += 1
        deadline = time.monotonic() + 300
        while waiting:
            if time.monotonic() > deadline:
                fail(f"{waiting} connections still wait for {what}")
            for number, _ in poll.poll(1):
                index = by_number[number]
                try:
                    data = sockets[index].recv(1 << 18)
                except BlockingIOError:
                    continue
                if not data:
                    fail(f"a connection ended before {what}: {bytes(received[index][-300:])}")
                received[index] += data
                if is_done(received[index]):
                    poll.unregister(number)
                    waiting -= 1
        poll.close()

    def drop(self, sockets):
        """Half of them as a process does that ends, the others as one that is cut off: with a reset."""
        for index, each in enumerate(sockets):
            if index % 2:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()

    def await_dropped(self, port):
        start = time.monotonic()
        while True:
            text = call(port, "/metrics", timeout=120).decode()
            if int(re.search(r"^kontiki_http_connections (\d+)", text, re.M)[1]) < 10:
                return time.monotonic() - start
            if time.monotonic() - start > 120:
                fail("the node still counts the connections that were dropped")
            time.sleep(0.05)

    def watchers(self):
        count, puts = self.arguments.watchers, self.arguments.puts
        # The first node leads; the watchers are at a follower, and the puts go to the leader.
        leader, port = self.cluster.http[0], self.cluster.http[1]
        before = self.cluster.memory(1)
        probe = Probe(port)
        start = time.monotonic()
        sockets = self.connect(port, b"GET /kv?prefix=watched/&watch HTTP/1.1\r\nHost: x\r\n\r\n")
        received = [bytearray() for _ in sockets]
        self.receive(sockets, received, lambda data: b"event: progress\n" in data, "the begin of the watch")
        opened = time.monotonic() - start
        print(f"{count} watchers at a follower, opened in {opened:.1f} s; memory {before:.0f} MB before, "
              f"{self.cluster.memory(1):.0f} MB with them")
        self.livez("while they come", probe)

        probe = Probe(port)
        revisions, delays = [], []
        for number in range(puts // 2):
            start = time.monotonic()
            body = str(number).encode() * 16
            revisions.append(json.loads(call(leader, f"/kv/watched/{number}", "PUT", body))["revision"])
            last = b"id: %d\nevent: put\n" % revisions[-1]
            self.receive(sockets, received, lambda data: data.find(last, max(0, len(data) - 4096)) >= 0, "a change")
            delays.append(time.monotonic() - start)
        delays.sort()
        print(f"{len(delays)} puts one by one: each at all watchers {delays[len(delays) // 2]:.2f} s after it was asked for in the median, "
              f"{delays[-1]:.2f} s at most")
        start = time.monotonic()
        for number in range(puts - puts // 2):
            body = str(number).encode() * 16
            revisions.append(json.loads(call(leader, f"/kv/watched/{number}", "PUT", body))["revision"])
        written = time.monotonic() - start
        last = b"id: %d\nevent: put\n" % revisions[-1]
        self.receive(sockets, received, lambda data: data.find(last, max(0, len(data) - 4096)) >= 0, "the last change")
        took = time.monotonic() - start
        total = (puts - puts // 2) * count
        print(f"{puts - puts // 2} puts in a row in {written:.2f} s: all at all watchers after {took:.2f} s, {total / took:,.0f} events a second; "
              f"memory {self.cluster.memory(1):.0f} MB")
        self.livez("while changes go out", probe)
        for index, data in enumerate(received):
            seen = [int(revision) for revision, _ in EVENT.findall(data)]
            if seen != revisions or END.search(data):
                fail(f"watcher {index} saw {seen} and not {revisions}")
        print(f"each of the {count} watchers saw all {puts} changes once, in order")
        self.dropped(sockets, port)

    def dropped(self, sockets, port):
        probe = Probe(port)
        self.drop(sockets)
        took = self.await_dropped(port)
        call(port, "/kv/after", "PUT", b"dropped")
        print(f"all dropped at once: the node knows after {took:.2f} s and takes writes; memory {self.cluster.memory(1):.0f} MB")
        time.sleep(1)
        self.livez("meanwhile", probe)

    def idle(self):
        count, port = self.arguments.watchers, self.cluster.http[1]
        probe = Probe(port)
        before = self.cluster.memory(1)
        start = time.monotonic()
        sockets = self.connect(port, None)
        print(f"{count} idle connections in {time.monotonic() - start:.1f} s; memory {before:.0f} MB before, "
              f"{self.cluster.memory(1):.0f} MB with them")
        times = []
        for number in range(200):
            start = time.monotonic()
            if number % 2 == 0:
                call(port, "/kv/idle", "PUT", b"x")
            else:
                call(port, "/kv/idle")
            times.append(time.monotonic() - start)
        times.sort()
        print(f"200 requests of others meanwhile: {times[100] * 1e3:.0f} ms in the median, {times[-1] * 1e3:.0f} ms at most")
        sample = sockets[:: max(1, count // 100)]
        for each in sample:
            each.sendall(b"GET /kv/idle HTTP/1.1\r\nHost: x\r\n\r\n")
        received = [bytearray() for _ in sample]
        self.receive(sample, received, lambda data: data.endswith(b"\r\n\r\nx"), "the answer to one that was idle")
        self.livez("meanwhile", probe)
        self.dropped(sockets, port)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watchers", type=int, default=10_000)
    parser.add_argument("--puts", type=int, default=20)
    parser.add_argument("--patience", type=float, default=5, help="seconds that /livez may take")
    arguments = parser.parse_args()
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    program = os.environ.get("KONTIKI_BINARY", os.path.join(root, ".build/release/kontiki"))
    if not os.access(program, os.X_OK):
        fail(f"There is no {program}: build it with Deploy/run.sh, or name it in KONTIKI_BINARY.")
    # The nodes are started with what shells give, and have to see to it themselves.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < arguments.watchers + 100:
        fail(f"The hard limit of open files is {hard}, too low for {arguments.watchers} connections.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    folder = tempfile.mkdtemp()
    cluster = None
    try:
        cluster = Cluster(program, folder)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        run = Run(arguments, cluster)
        run.watchers()
        run.idle()
    finally:
        if cluster:
            cluster.stop()
        shutil.rmtree(folder)


main()
