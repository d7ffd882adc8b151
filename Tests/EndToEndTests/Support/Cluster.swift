import Foundation
import KontikiClient
import Testing

/// Some nodes on this machine.
final class Cluster: Sendable {
    let nodes: [NodeProcess]
    /// Between the nodes, when the test wants to cut lines.
    let network: Network?
    /// Asks any node, and tries again.
    let client: KontikiClient
    let directory: String
    private let options: [String]

    private init(
        _ count: Int,
        _ directory: String,
        _ network: Network?,
        _ options: [String],
        areDisksSwitched: Bool
    ) async throws {
        self.directory = directory
        self.network = network
        self.options = options
        var nodes: [NodeProcess] = []
        for number in 1...count {
            nodes.append(
                try await Self.makeNode("node\(number)", directory, network, options, isDiskSwitched: areDisksSwitched)
            )
        }
        self.nodes = nodes
        var retrying = KontikiClient.Options()
        retrying.totalTimeout = .seconds(30)
        retrying.attemptTimeout = .seconds(6)
        client = try KontikiClient(endpoints: nodes.map(\.endpoint), options: retrying)
    }

    private static func makeNode(
        _ name: String,
        _ directory: String,
        _ network: Network?,
        _ options: [String],
        isDiskSwitched: Bool = false
    ) async throws -> NodeProcess {
        let listen = "127.0.0.1:\(try Ports.next())"
        let advertised = try await network?.proxy(for: name, to: listen) ?? listen
        return try NodeProcess(
            name: name,
            peerAddress: advertised,
            listenAddress: listen,
            directory: directory,
            options: options,
            isDiskSwitched: isDiskSwitched
        )
    }

    /// Starts a cluster after `prepare`, runs `body`, and stops whatever still runs. On an error the nodes' logs are shown.
    ///
    /// - Parameter isFast: keeps the data in memory, so that the nodes never wait for a real disk.
    static func run(
        nodes count: Int = 3,
        proxied: Bool = false,
        areDisksSwitched: Bool = false,
        isFast: Bool = false,
        options: [String] = [],
        prepare: (Cluster) throws -> Void = { _ in },
        _ body: (Cluster) async throws -> Void
    ) async throws {
        try await (isFast ? withFastDirectory : withTemporaryDirectory) { directory in
            let network = proxied ? Network() : nil
            let cluster = try await Cluster(
                count,
                directory,
                network,
                options,
                areDisksSwitched: areDisksSwitched
            )
            do {
                try prepare(cluster)
                try await cluster.start()
                try await body(cluster)
            } catch {
                cluster.showLogs()
                await cluster.end()
                throw error
            }
            await cluster.end()
        }
    }

    private func start() async throws {
        try nodes[0].start("--bootstrap")
        for node in nodes.dropFirst() { try node.start("--join", nodes[0].peerAddress) }
        try await allReady()
    }

    private func end() async {
        for node in nodes {
            await node.crash()
            await node.client.shutdown()
        }
        await client.shutdown()
        await network?.shutdown()
    }

    private func showLogs() {
        for node in nodes {
            report("--- the end of \(node.name)'s log")
            report(node.log.split(separator: "\n").suffix(30).joined(separator: "\n"))
        }
    }

    /// Another node, not started, with options of the test's own. It is not among ``nodes``: whoever makes it ends it.
    func addNode(_ name: String) async throws -> NodeProcess {
        try await Self.makeNode(name, directory, network, options)
    }

    /// Every node of the cluster is a voter, and ready as it says itself.
    func allReady() async throws {
        try await eventually("all nodes are voters and serve", within: .seconds(120)) {
            for node in nodes {
                guard await node.isReady() else { return false }
            }
            let members = try await client.members()
            return members.filter { $0.suffrage == "voter" }.count >= nodes.count
        }
    }

    /// The running node that leads; waits for one. Of two the one of the later term: the other has not heard of it yet.
    func leader(among some: [NodeProcess]? = nil) async throws -> NodeProcess {
        var found: (node: NodeProcess, term: UInt64)?
        try await eventually("one node leads") {
            for node in some ?? nodes where node.isRunning {
                guard let status = await node.status(), status.role == "leader" else { continue }
                if status.term > found?.term ?? 0 { found = (node, status.term) }
            }
            return found != nil
        }
        return try #require(found).node
    }

    /// Hands leadership to the node, again where an election comes between or the outcome is unknown.
    func makeLead(_ node: NodeProcess) async throws {
        try await eventually("\(node.name) leads", every: .milliseconds(200)) {
            if await node.status()?.role != "leader" {
                try? await leader().client.transferLeadership(to: node.name)
            }
            return await node.status()?.role == "leader"
        }
    }

    /// Waits until what a server has that knows `index` as its last no longer suffices: the logs of these begin behind it.
    func logsBegin(behind index: UInt64, on nodes: [NodeProcess]) async throws {
        try await eventually("the logs of \(nodes.map(\.name)) begin behind \(index)") {
            for node in nodes {
                guard try await node.client.status().firstIndex > index + 1 else { return false }
            }
            return true
        }
    }

    func others(than node: NodeProcess) -> [NodeProcess] { nodes.filter { $0 !== node } }
}
