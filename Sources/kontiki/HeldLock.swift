import Foundation
import KontikiClient
import Synchronization

/// A lock that is kept alive while a command runs.
///
/// What counts is when the cluster may end its lease, and the cluster begins to count at some moment between a request and its answer:
/// so time is counted from before each request, here.
struct HeldLock {
    /// What came of asking for one.
    enum Acquisition {
        case held(HeldLock)
        case byAnother
        /// It was granted, and may have ended before that was known.
        case lost
    }

    let client: KontikiClient
    let lock: Lock
    /// How long it lasts when it is not kept alive.
    let time: Duration
    /// Its time was begun anew by a request of this moment: the cluster cannot have begun to count earlier.
    private let confirmedAt: ContinuousClock.Instant

    /// Asks for a lock, and sees that its lease is alive now. A grant alone does not say so: the answer may have been on its way, or the
    /// request in the queue, for longer than the lease lasts.
    static func acquire(
        _ name: String,
        _ client: KontikiClient,
        time: Duration,
        wait: Duration,
        value: String?
    ) async throws -> Acquisition {
        guard let lock = try await client.acquireLock(name, time: time, wait: wait, value: value) else {
            return .byAnother
        }
        let clock = ContinuousClock()
        let asked = clock.now
        do {
            if try await client.keepAlive(lock.lease, time: time) != nil, clock.now < asked + time {
                return .held(HeldLock(client: client, lock: lock, time: time, confirmedAt: asked))
            }
        } catch {
            _ = try? await client.releaseLock(name, token: lock.token)
            throw error
        }
        _ = try? await client.releaseLock(name, token: lock.token)
        return .lost
    }

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
        var keptAt = confirmedAt
        var next = keptAt + time / 3
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
