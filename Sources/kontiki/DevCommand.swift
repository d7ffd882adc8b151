import ArgumentParser
import Foundation
import KontikiClient
import Logging

struct DevCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dev",
        abstract: "Run a cluster on this machine, for development.",
        discussion: """
            Starts each node as a process of its own, makes a cluster of them or finds the one that is there, and shows their logs. \
            A node that ends is announced, and started again after a moment (not with --no-restart). Ctrl-C stops all in good order.

              kontiki dev
              kontiki dev --nodes 5 --data /tmp/five --base-http 8101 --base-peer 9101
            """
    )

    @Option(help: "How many nodes.") var nodes = 3
    @Option(help: ArgumentHelp("Where the nodes keep their data, each in a directory of its own.", valueName: "dir"))
    var data = "data"
    @Option(help: ArgumentHelp("The first node's port for clients.", valueName: "port")) var baseHttp = 8001
    @Option(help: ArgumentHelp("The first node's port for peers.", valueName: "port")) var basePeer = 9001
    @Option(help: "From which level on the nodes' logs are shown.") var logLevel = Logger.Level.notice
    @Flag(help: "Do not start a node again that ended.") var noRestart = false

    @Argument(parsing: .postTerminator, help: "After --: further options for serve.") var serveOptions: [String] = []

    func validate() throws {
        guard (1...9).contains(nodes) else { throw ValidationError("--nodes must be from 1 to 9.") }
        for (flag, port) in [("--base-http", baseHttp), ("--base-peer", basePeer)] {
            guard (1...65_535 - nodes).contains(port) else { throw ValidationError("\(flag) is no usable port.") }
        }
        guard abs(baseHttp - basePeer) >= nodes else {
            throw ValidationError("The ports for clients and for peers overlap.")
        }
    }

    func run() async throws {
        let plans = (1...nodes).map { number in
            DevNode(
                name: "node\(number)",
                http: "localhost:\(baseHttp + number - 1)",
                peer: "localhost:\(basePeer + number - 1)",
                directory: "\(data)/node\(number)"
            )
        }
        do {
            try FileManager.default.createDirectory(atPath: data, withIntermediateDirectories: true)
        } catch {
            throw Failure(.io, "the directory \(data) cannot be made: \(error.localizedDescription)")
        }
        var supervisor = DevSupervisor(
            nodes: plans,
            dataDirectory: data,
            commonOptions: ["--log-level", logLevel.rawValue] + serveOptions,
            restarts: !noRestart
        )
        try await supervisor.run()
    }
}

/// A node of the development cluster.
struct DevNode: Sendable {
    var name: String
    var http: String
    var peer: String
    var directory: String

    var hasData: Bool { FileManager.default.fileExists(atPath: directory + "/log") }

    /// The command line of its `serve`. With data in place the way it began is not asked for any more.
    func arguments(among nodes: [DevNode], common: [String]) -> [String] {
        let others = nodes.filter { $0.name != name }
        var arguments = ["serve", "--id", name, "--addr", peer, "--http", http, "--data", directory]
        if !hasData {
            if nodes[0].name == name && !others.contains(where: \.hasData) {
                arguments.append("--bootstrap")
            } else {
                // Those with data are the cluster; on the very first start that will be the first node.
                let members = others.contains(where: \.hasData) ? others.filter(\.hasData) : [nodes[0]]
                arguments += ["--join", members.map(\.peer).joined(separator: ",")]
            }
        }
        return arguments + common
    }
}
