public import ArgumentParser
public import KontikiClient

struct LeaseCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lease",
        abstract: "Leases: keys that end together when nobody keeps them alive.",
        discussion: """
              lease=$(kontiki lease grant 30s)
              kontiki put services/web/host1 10.0.0.1:80 --lease $lease
              kontiki lease keep-alive $lease       until it is stopped
              kontiki lease show $lease
              kontiki lease revoke $lease

            For one key alone, kontiki put --ttl 30s is enough.
            """,
        subcommands: [Grant.self, KeepAlive.self, Show.self, Revoke.self]
    )

    struct Grant: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make a lease and print its name.")
        @OptionGroup var client: ClientOptions
        @Argument(
            help: ArgumentHelp("How long it lasts when it is not kept alive, 1s to 366 days.", valueName: "duration")
        )
        var time: Span

        func run() async throws {
            let lease = try await client.withClient { try await $0.grantLease(time.duration) }
            try Output.emit(line: lease.id.description)
        }
    }

    struct KeepAlive: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Keep a lease alive until this is stopped; exit code 1 when it has ended.",
            discussion: """
                It is kept alive each time that a third of its time is over. A node that does not answer is left for the next before the \
                lease can end. While none answers, it is said after each --timeout, and goes on: only a node can tell that the lease has ended.
                """
        )
        @OptionGroup var client: ClientOptions
        @Flag(name: .long, help: "Only once; an error when no node answers within --timeout.") var once = false
        @Argument(help: "The lease's name.") var lease: LeaseID

        func run() async throws {
            try await client.withClient { client in
                let clock = ContinuousClock()
                // Not known before the first answer.
                var time: Duration?
                while true {
                    let asked = clock.now
                    do throws(ClientError) {
                        let kept = try await client.keepAlive(lease, time: time)
                        time = kept?.time
                    } catch {
                        guard !once, Self.mayPass(error) else { throw error }
                        say("kontiki: the lease could not be kept alive, trying again: \(error)")
                        try await Task.sleep(for: .milliseconds(100))
                        continue
                    }
                    guard let time else { throw Failure(.no, "there is no lease \(lease); it has ended") }
                    if once { return }
                    try await clock.sleep(until: asked + max(time / 3, .milliseconds(100)))
                }
            }
        }

        /// Whether the same request may be answered later.
        private static func mayPass(_ error: ClientError) -> Bool {
            error.outcome == .unknown
                || [.unavailable, .timedOut, .connectionLost, .storageFull].contains(error.code)
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show what is left of a lease, and its keys.")
        @OptionGroup var client: ClientOptions
        @OptionGroup var output: DisplayOptions
        @Argument(help: "The lease's name.") var lease: LeaseID

        func run() async throws {
            let found = try await client.withClient { try await $0.lease(lease) }
            guard let found else { throw Failure(.no, "there is no lease \(lease)") }
            try Output.emit(line: "\(found.remaining) of \(found.time) left, \(found.keys.count) keys")
            for key in found.keys { try output.display.emit(fields: [key.bytes]) }
        }
    }

    struct Revoke: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "End a lease now, with its keys.")
        @OptionGroup var client: ClientOptions
        @Argument(help: "The lease's name.") var lease: LeaseID

        func run() async throws {
            let wasThere = try await client.withClient { try await $0.revoke(lease) }
            guard wasThere else { throw Failure(.no, "there is no lease \(lease)") }
        }
    }
}

extension LeaseID: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}
