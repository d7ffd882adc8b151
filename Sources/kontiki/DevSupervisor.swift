import Foundation
import KontikiClient
import Synchronization

/// Starts the nodes of a development cluster, tells what happens to them, and stops them.
struct DevSupervisor {
    private enum Event: Sendable {
        case ended(node: Int, how: ChildProcess.Ending)
        case restart(node: Int)
        case ready
        case notReady(String)
        case stop(String)
    }

    /// A node that ends more often than this without living for a minute is left alone.
    private static let maximumRestarts = 5

    let nodes: [DevNode]
    let dataDirectory: String
    let commonOptions: [String]
    let restarts: Bool
    private let events = AsyncStream.makeStream(of: Event.self)
    private var children: [Int: ChildProcess] = [:]
    private var restartCounts: [Int: Int] = [:]
    private var isStarting = true
    private let isColoured = isatty(STDERR_FILENO) == 1

    init(nodes: [DevNode], dataDirectory: String, commonOptions: [String], restarts: Bool) {
        self.nodes = nodes
        self.dataDirectory = dataDirectory
        self.commonOptions = commonOptions
        self.restarts = restarts
    }

    /// Runs until a signal stops it or the cluster cannot be started.
    mutating func run() async throws {
        let isAsked = Atomic(false)
        let (first, further) = (events.continuation, AsyncStream.makeStream(of: Void.self))
        let signals = StopSignals(watchingStandardInput: false) { cause in
            let isFirst = !isAsked.exchange(true, ordering: .relaxed)
            if isFirst { first.yield(.stop(cause)) } else { further.continuation.yield() }
        }
        defer { withExtendedLifetime(signals) {} }
        var failure: Failure?
        do throws(Failure) {
            try await startAll()
            for await event in events.stream {
                guard try await handle(event) else { break }
            }
        } catch {
            failure = error
        }
        let impatience = Task { [children] in
            for await _ in further.stream { break }
            if Task.isCancelled { return }
            say("stopping at once")
            for child in children.values { child.kill() }
        }
        await stopAll()
        impatience.cancel()
        if let failure { throw failure }
    }

    private mutating func startAll() async throws(Failure) {
        let isNew = !nodes.contains(where: \.hasData)
        say(isNew ? "making a cluster of \(nodes.count) in \(dataDirectory)" : "found the cluster in \(dataDirectory)")
        if isNew {
            // The first node must be there before the others can ask to be taken in.
            try start(0)
            try await waitUntilReady(0)
            for node in nodes.indices.dropFirst() { try start(node) }
        } else {
            let (old, new) = (nodes.indices.filter { nodes[$0].hasData }, nodes.indices.filter { !nodes[$0].hasData })
            for node in old { try start(node) }
            if !new.isEmpty { try await waitUntilReady(old[0]) }
            for node in new { try start(node, replacing: await isMember(nodes[node].name, asking: nodes[old[0]])) }
        }
        let (continuation, endpoints) = (events.continuation, nodes.map(\.http))
        Task {
            for endpoint in endpoints {
                if let problem = await Self.readiness(endpoint, timeout: .seconds(60)) {
                    continuation.yield(.notReady(problem))
                    return
                }
            }
            continuation.yield(.ready)
        }
    }

    /// Answers whether to go on.
    private mutating func handle(_ event: Event) async throws(Failure) -> Bool {
        switch event {
        case .stop: return false
        case .ready:
            isStarting = false
            introduce()
        case .notReady(let problem):
            throw Failure(.unavailable, "the cluster does not get ready: \(problem)")
        case .restart(let node):
            if children[node] == nil { try start(node) }
        case .ended(let node, let how):
            children[node] = nil
            unlink(pidFile(node))
            if isStarting, case .exited(let code) = how, code != 0 {
                throw Failure(
                    ExitStatus(rawValue: code) ?? .software,
                    "\(nodes[node].name) did not start; its log above says why"
                )
            }
            announceEnd(of: node, how)
        }
        return true
    }

    private mutating func announceEnd(of node: Int, _ how: ChildProcess.Ending) {
        let name = nodes[node].name
        let count = restartCounts[node, default: 0] + 1
        restartCounts[node] = count
        guard restarts, how.isWorthRestarting, count <= Self.maximumRestarts else {
            say("*** \(name) ended (\(how)) and stays down; start the cluster again when the cause is mended")
            return
        }
        say("*** \(name) ended (\(how)); it is started again in 5 seconds")
        let continuation = events.continuation
        Task {
            try? await Task.sleep(for: .seconds(5))
            continuation.yield(.restart(node: node))
        }
    }

    private mutating func start(_ node: Int, replacing: Bool = false) throws(Failure) {
        let plan = nodes[node]
        var arguments = plan.arguments(among: nodes, common: commonOptions) + ["--stop-with-stdin"]
        if replacing { arguments += ["--replace", plan.name] }
        let colour = isColoured ? "\u{1B}[3\(1 + node % 6)m" : ""
        let prefix = Array("\(colour)\(plan.name) |\(isColoured ? "\u{1B}[0m" : "") ".utf8)
        let continuation = events.continuation
        let child: ChildProcess
        do {
            child = try ChildProcess(arguments: arguments, onLine: { Self.pass(on: $0, behind: prefix) }) {
                continuation.yield(.ended(node: node, how: $0))
            }
        } catch {
            throw Failure(.software, "\(plan.name) cannot be started: \(error)")
        }
        children[node] = child
        // For people and scripts; nothing depends on it.
        try? Data("\(child.processID)\n".utf8).write(to: URL(fileURLWithPath: pidFile(node)))
    }

    /// A node's line, whole, behind a name that may have a colour.
    private static func pass(on line: String, behind prefix: [UInt8]) {
        Output.write(prefix + Array((Printable.shown(line, keepingLines: true) + "\n").utf8), to: STDERR_FILENO)
    }

    private func pidFile(_ node: Int) -> String { "\(dataDirectory)/\(nodes[node].name).pid" }

    /// Waits for a node, and meanwhile for its end.
    private mutating func waitUntilReady(_ node: Int) async throws(Failure) {
        let continuation = events.continuation
        let endpoint = nodes[node].http
        let wait = Task {
            let problem = await Self.readiness(endpoint, timeout: .seconds(60))
            continuation.yield(problem.map { .notReady($0) } ?? .ready)
        }
        defer { wait.cancel() }
        for await event in events.stream {
            if case .ready = event { return }
            guard try await handle(event) else { throw Failure(.temporary, "stopped while the cluster was being made") }
        }
    }

    /// Waits until a node's `/readyz` says yes; answers what is wrong otherwise.
    private static func readiness(_ endpoint: String, timeout: Duration) async -> String? {
        var options = KontikiClient.Options()
        options.totalTimeout = .zero
        let client: KontikiClient
        do {
            client = try KontikiClient(endpoints: [endpoint], options: options)
        } catch {
            return "\(error)"
        }
        let deadline = ContinuousClock.now + timeout
        var answer: String?
        repeat {
            do {
                answer = try await client.readiness().first
            } catch {
                answer = "\(error)"
            }
            guard answer != nil else { break }
            try? await Task.sleep(for: .milliseconds(50))
        } while ContinuousClock.now < deadline && !Task.isCancelled
        await client.shutdown()
        return answer
    }

    private func isMember(_ name: String, asking node: DevNode) async -> Bool {
        guard let client = try? KontikiClient(endpoints: [node.http]) else { return false }
        let members = (try? await client.members()) ?? []
        await client.shutdown()
        return members.contains { $0.id == name }
    }

    private func introduce() {
        say("")
        for (index, node) in nodes.enumerated() {
            let pid = children[index].map { "pid \($0.processID)" } ?? "down"
            say("  \(node.name)  http://\(node.http)  peers \(node.peer)  data \(node.directory)  \(pid)")
        }
        say(
            """

            Try, in another terminal:
              curl -X PUT -d world http://\(nodes[0].http)/kv/hello
              curl http://\(nodes[nodes.count > 1 ? 1 : 0].http)/kv/hello
            Ctrl-C stops the cluster; its data stays in \(dataDirectory).

            """
        )
    }

    private mutating func stopAll() async {
        guard !children.isEmpty else { return }
        say("stopping \(children.count == 1 ? "one node" : "\(children.count) nodes") …")
        for child in children.values { child.terminate() }
        let deadline = Task { [left = children, nodes] in
            try? await Task.sleep(for: .seconds(20))
            if Task.isCancelled { return }
            for (node, child) in left where child.isRunning {
                say("*** \(nodes[node].name) does not stop; killing it")
                child.kill()
            }
        }
        for (node, child) in children {
            _ = await child.waitUntilEnd()
            unlink(pidFile(node))
        }
        deadline.cancel()
        say("stopped")
    }
}
