import ArgumentParser
import Foundation
import KontikiClient

struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show the nodes of the cluster and how they stand.",
        discussion: """
              kontiki status
              kontiki status --json --endpoint localhost:8002   one node's own answer, complete
            """
    )

    @OptionGroup var client: ClientOptions

    @Flag(name: .long, help: "Print the node's answer as it is, JSON.") var json = false

    func run() async throws {
        try await client.withClient { client in
            if json { return try Display().emit(json: try await client.statusDocument()) }
            let status = try await client.status()
            try Output.emit(
                line:
                    "cluster \(shown(status.clusterID)), asked \(shown(status.id)) (\(shown(status.role)), term \(status.term))"
            )
            if let leader = status.leader {
                try Output.emit(
                    line: "leader  \(shown(leader.id)), peers \(shown(leader.addr)), clients \(shown(leader.http))"
                )
            } else {
                try Output.emit(line: "leader  none known; writes and strong reads wait for an election")
            }
            try Output.emit(
                line: """
                    store   revision \(status.revision), applied \(status.appliedIndex) of \(status.commitIndex) committed, \
                    log \(status.firstIndex)–\(status.lastIndex), snapshot at \(status.snapshotIndex)
                    """
            )
            if let ready = status.ready {
                let behind = status.lag.map { "\($0) entries behind the leader" } ?? "no leader is heard of"
                try Output.emit(line: "ready   \(ready ? "yes" : "no, /readyz says what is lacking"); \(behind)")
            }
            try Self.print(try await client.members())
        }
    }

    private func shown(_ text: String) -> String { Printable.shown(text) }

    static func print(_ members: [ClusterMember]) throws {
        var rows = [["NAME", "ROLE", "PEERS", "CLIENTS", "MATCH", "CONTACT", "HEALTHY"]]
        for member in members {
            rows.append([
                member.id, member.leader ? "leader" : member.suffrage, member.addr, member.http,
                member.matchIndex.map { "\($0)" } ?? "-", member.lastContactMilliseconds.map { "\($0) ms" } ?? "-",
                member.healthy ? "yes" : "no",
            ])
        }
        // A cell is one, whatever a member calls itself.
        rows = rows.map { $0.map { Printable.shown($0) } }
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        for row in rows {
            let cells = zip(row, widths).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }
            try Output.emit(line: cells.joined(separator: "  ").trimmingCharacters(in: .whitespaces))
        }
    }
}

struct MemberCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "member",
        abstract: "Look at the members of the cluster and change them.",
        discussion: """
            A new node usually asks for its place itself (serve --join). The commands here are for what is left:

              kontiki member list
              kontiki member add node4 host4:9001         take in a node that was started to join
              kontiki member promote node4                make a learner a voter
              kontiki member replace node2 node5 host5:9001   a new node in the place of a dead one, in one change
              kontiki member remove node4
            """,
        subcommands: [List.self, Add.self, Remove.self, Promote.self, Replace.self]
    )

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the members.")
        @OptionGroup var client: ClientOptions

        func run() async throws { try await client.withClient { try StatusCommand.print(try await $0.members()) } }
    }

    struct Add: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take in a node as a learner; it becomes a voter when it has caught up."
        )
        @OptionGroup var client: ClientOptions
        @Argument(help: "The new node's name.") var name: String
        @Argument(help: "Where it takes connections of its peers, host:port.") var address: String

        func run() async throws { try await client.withClient { try await $0.addMember(name: name, address: address) } }
    }

    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Take a node out of the cluster.")
        @OptionGroup var client: ClientOptions
        @Argument(help: "The node's name.") var name: String

        func run() async throws { try await client.withClient { try await $0.removeMember(name) } }
    }

    struct Promote: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make a learner a voter.")
        @OptionGroup var client: ClientOptions
        @Argument(help: "The node's name.") var name: String

        func run() async throws { try await client.withClient { try await $0.promoteMember(name) } }
    }

    struct Replace: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Put a new node in the place of a dead one, in one change."
        )
        @OptionGroup var client: ClientOptions
        @Argument(help: "The node that leaves.") var name: String
        @Argument(help: "The new node's name.") var newName: String
        @Argument(help: "Where the new node takes connections of its peers, host:port.") var address: String

        func run() async throws {
            try await client.withClient { try await $0.replaceMember(name, with: newName, address: address) }
        }
    }
}

struct TransferCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "transfer",
        abstract: "Hand leadership to another node.",
        discussion: """
              kontiki transfer          to the follower that is furthest
              kontiki transfer node2
            """
    )

    @OptionGroup var client: ClientOptions
    @Argument(help: "The node that shall lead.") var name: String?

    func run() async throws { try await client.withClient { try await $0.transferLeadership(to: name) } }
}
