import ArgumentParser
import Foundation
import KontikiClient
import Synchronization

struct LockCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lock",
        abstract: "Hold a lock while a command runs.",
        discussion: """
              kontiki lock nightly -- ./backup.sh
              kontiki lock nightly --wait 10m --value "$(hostname)" -- ./backup.sh
              kontiki lock nightly --show

            The lock is kept alive while the command runs, and given back at its end; the exit code is the command's. Who finds it held \
            waits, in the order of asking, as long as --wait says; then the exit code is 1. If the lock is lost (no node could be reached \
            for the time of --ttl), the command gets SIGTERM, ten seconds later SIGKILL, and the exit code is 75. A node that is silent \
            does not lose it: after a third of --ttl, at most 5s, the next --endpoint is asked.

            The command is started once the lock was kept alive after it was granted, however long the answers were on their way; the time \
            of --ttl counts from before each request, so that it ends here no later than for the cluster.

            The command finds in its environment KONTIKI_LOCK, KONTIKI_TOKEN and KONTIKI_FENCE. A write that is sent with the header \
            "Kontiki-Fence: $KONTIKI_FENCE", or with --fence "$KONTIKI_FENCE", takes place only while the lock is still held.
            """
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: DisplayOptions

    @Option(
        help: ArgumentHelp("The lock is lost when nothing was heard of its holder for so long.", valueName: "duration")
    )
    var ttl = Span(.seconds(15))
    @Option(help: ArgumentHelp("How long to wait while another holds it.", valueName: "duration"))
    var wait = Span(.zero)
    @Option(help: "Who holds it, for others to see.") var value: String?
    @Flag(name: .long, help: "Only tell who holds it.") var show = false
    @Argument(help: "The lock's name.") var name: String
    @Argument(parsing: .postTerminator, help: "The command and its arguments, behind --.") var command: [String] = []

    func validate() throws {
        if show != command.isEmpty { throw ValidationError("Give a command behind --, or --show.") }
        if ttl.duration < .seconds(1) { throw ValidationError("--ttl must be at least 1s.") }
    }

    func run() async throws {
        try await client.withClient { client in
            if show {
                guard let lock = try await client.lock(name).holder else {
                    throw Failure(.no, "nobody holds “\(name)”")
                }
                let holder = lock.value.map { ", held by \(output.raw ? $0 : Printable.shown($0))" } ?? ""
                return try Output.emit(Array("token \(lock.token)\(holder)\n".utf8))
            }
            let status = try await acquire(client).run(command)
            guard status == 0 else { throw ExitCode(status) }
        }
    }

    private func acquire(_ client: KontikiClient) async throws -> HeldLock {
        let clock = ContinuousClock()
        let deadline = clock.now + wait.duration
        while true {
            let left = max(.zero, clock.now.duration(to: deadline))
            switch try await HeldLock.acquire(name, client, time: ttl.duration, wait: left, value: value) {
            case .held(let lock): return lock
            case .byAnother:
                throw Failure(
                    .no,
                    "“\(name)” is held by another" + (wait.duration > .zero ? " still" : "; --wait waits")
                )
            case .lost:
                guard clock.now < deadline else {
                    throw Failure(.temporary, "the lock “\(name)” was lost before the command could start; try again")
                }
            }
        }
    }
}

struct ElectCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "elect",
        abstract: "Stand for election, and run a command while elected; or observe who is.",
        discussion: """
              kontiki elect scheduler --value "$(hostname)" -- ./scheduler
              kontiki elect scheduler --observe

            Candidates are elected in the order in which they stood, each for as long as its command runs; waiting has no end. An \
            election is a lock: see kontiki help lock for what the command is told and what happens when it is lost. --observe prints a \
            line each time another is elected, without an end.
            """
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: DisplayOptions

    @Option(help: ArgumentHelp("The next is elected when nothing was heard for so long.", valueName: "duration"))
    var ttl = Span(.seconds(15))
    @Option(help: "Who stands for election, for observers to see; the host's name when absent.") var value: String?
    @Flag(name: .long, help: "Only tell who is elected, now and each time it changes.") var observe = false
    @Argument(help: "The election's name.") var name: String
    @Argument(parsing: .postTerminator, help: "The command and its arguments, behind --.") var command: [String] = []

    func validate() throws {
        if observe != command.isEmpty { throw ValidationError("Give a command behind --, or --observe.") }
        if ttl.duration < .seconds(1) { throw ValidationError("--ttl must be at least 1s.") }
    }

    func run() async throws {
        try await client.withClient { client in
            if observe { return try await observe(client) }
            let candidate = value ?? ProcessInfo.processInfo.hostName
            while true {
                // Each round asks anew, so that one that a node forgot does not wait for ever.
                let taken = try await HeldLock.acquire(
                    name,
                    client,
                    time: ttl.duration,
                    wait: .seconds(600),
                    value: candidate
                )
                guard case .held(let elected) = taken else { continue }
                say("kontiki: elected, token \(elected.lock.token)")
                let status = try await elected.run(command)
                guard status == 0 else { throw ExitCode(status) }
                return
            }
        }
    }

    private func observe(_ client: KontikiClient) async throws {
        var token: UInt64?
        while true {
            let (lock, revision) = try await client.lock(name)
            if let lock, lock.token != token {
                token = lock.token
                try output.display.emit(fields: [Array("\(lock.token)".utf8), Array((lock.value ?? "").utf8)])
            }
            do {
                try await client.watch(.lock(name), since: revision) { _ in false }
            } catch let error as ClientError where error.code == .compacted {
                continue
            }
        }
    }
}
