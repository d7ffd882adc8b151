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

            The command finds in its environment KONTIKI_LOCK, KONTIKI_TOKEN and KONTIKI_FENCE. A write that is sent with the header \
            "Kontiki-Fence: $KONTIKI_FENCE", or with --fence "$KONTIKI_FENCE", takes place only while the lock is still held.
            """
    )

    @OptionGroup var client: ClientOptions

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
                return try Output.emit(line: "token \(lock.token)" + (lock.value.map { ", held by \($0)" } ?? ""))
            }
            guard let lock = try await client.acquireLock(name, time: ttl.duration, wait: wait.duration, value: value)
            else {
                throw Failure(
                    .no,
                    "“\(name)” is held by another" + (wait.duration > .zero ? " still" : "; --wait waits")
                )
            }
            let status = try await HeldLock(client: client, lock: lock, time: ttl.duration).run(command)
            guard status == 0 else { throw ExitCode(status) }
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
            var elected: Lock?
            while elected == nil {
                // Each round asks anew, so that one that a node forgot does not wait for ever.
                elected = try await client.acquireLock(
                    name,
                    time: ttl.duration,
                    wait: .seconds(600),
                    value: candidate
                )
            }
            guard let elected else { return }
            say("kontiki: elected, token \(elected.token)")
            let status = try await HeldLock(client: client, lock: elected, time: ttl.duration).run(command)
            guard status == 0 else { throw ExitCode(status) }
        }
    }

    private func observe(_ client: KontikiClient) async throws {
        var token: UInt64?
        while true {
            let (lock, revision) = try await client.lock(name)
            if let lock, lock.token != token {
                token = lock.token
                try Output.emit(line: "\(lock.token)\t\(lock.value ?? "")")
            }
            do {
                try await client.watch(.lock(name), since: revision) { _ in false }
            } catch let error as ClientError where error.code == .compacted {
                continue
            }
        }
    }
}

/// A lock that is kept alive while a command runs.
private struct HeldLock {
    var client: KontikiClient
    var lock: Lock
    var time: Duration

    /// Runs a command, and gives the lock back. Answers the exit code.
    func run(_ command: [String]) async throws -> Int32 {
        let process: CommandProcess
        do {
            process = try CommandProcess(
                command,
                environment: [
                    "KONTIKI_LOCK": lock.name,
                    "KONTIKI_TOKEN": "\(lock.token)",
                    "KONTIKI_FENCE": lock.fence.description,
                ]
            )
        } catch {
            _ = try? await client.releaseLock(lock.name, token: lock.token)
            throw error
        }
        let signals = StopSignals(watchingStandardInput: false) { _ in process.send(SIGTERM) }
        defer { withExtendedLifetime(signals) {} }
        let isLost = Mutex(false)
        let keeper = Task {
            do {
                try await keepAlive()
                // One that was given back is not lost.
                try Task.checkCancellation()
            } catch {
                return
            }
            isLost.withLock { $0 = true }
            say("kontiki: the lock “\(lock.name)” is lost; the command is told to stop")
            process.send(SIGTERM)
            try? await Task.sleep(for: .seconds(10))
            process.send(SIGKILL)
        }
        let status = await process.waitUntilEnd()
        keeper.cancel()
        guard !isLost.withLock({ $0 }) else { return ExitStatus.temporary.rawValue }
        do {
            try await client.releaseLock(lock.name, token: lock.token)
        } catch {
            say("kontiki: the lock could not be given back, it ends by itself: \(error)")
        }
        return status
    }

    /// Returns when the lock is lost; throws when the task is cancelled.
    private func keepAlive() async throws {
        let clock = ContinuousClock()
        // From when it was asked for: earlier than that the cluster cannot have begun to count.
        var keptAt = clock.now
        // At once for the first time: it may have been granted long before it was known, with an answer that was lost.
        var next = keptAt
        while true {
            try await clock.sleep(until: next)
            let asked = clock.now
            // Who holds it must know when it may have ended, not when the last attempt did.
            let left = keptAt + time - asked
            guard left > .zero else { return }
            do throws(ClientError) {
                guard try await client.keepAlive(lock.lease, time: time, within: left) != nil else { return }
                keptAt = asked
                next = asked + time / 3
            } catch {
                try Task.checkCancellation()
                if clock.now - keptAt >= time { return }
                say("kontiki: the lock could not be kept alive, trying again: \(error)")
                try await Task.sleep(for: min(time / 30, .seconds(1)))
            }
        }
    }
}
