import KontikiClient
import Synchronization
import Testing

/// Writers that note what became of each write, so that it can be held against what the cluster has.
///
/// Each write goes to a key of its own, and every few writes one goes to a key that is written again and again.
final class WriteLoad: Sendable {
    /// What the cluster must and may hold.
    private struct Ledger {
        /// Acknowledged: must be there.
        var acknowledged: [String: String] = [:]
        /// Outcome unknown: there with this value, or not at all.
        var unknown: [String: String] = [:]
        /// Said not to have been executed: must not be there.
        var refused: Set<String> = []
        /// Of the keys that are written again: the last acknowledged value, and all of unknown outcome.
        var lastOfHot: [String: String] = [:]
        var unknownOfHot: [String: Set<String>] = [:]
        var writtenToHot: [String: Set<String>] = [:]
        var attempts = 0
        var acknowledgements = 0
        /// What was not acknowledged, in words, with how often.
        var failures: [String: Int] = [:]
    }

    private let ledger = Mutex(Ledger())
    private let prefix: String
    private let isStopped = Mutex(false)

    init(prefix: String) { self.prefix = prefix }

    var attempts: Int { ledger.withLock { $0.attempts } }
    var acknowledgements: Int { ledger.withLock { $0.acknowledgements } }
    var failures: [String: Int] { ledger.withLock { $0.failures } }
    var unknownCount: Int { ledger.withLock { $0.unknown.count + $0.unknownOfHot.values.reduce(0) { $0 + $1.count } } }

    func stop() { isStopped.withLock { $0 = true } }

    /// Writes until it is stopped, through one client after the other.
    func run(writer: Int, clients: [KontikiClient], seed: UInt64) async {
        var random = SeededGenerator(seed: seed)
        var number = 0
        while !isStopped.withLock({ $0 }) {
            number += 1
            let isHot = number % 4 == 0
            let key = isHot ? "\(prefix)/hot/\(writer)" : "\(prefix)/once/\(writer)/\(number)"
            let value =
                "\(prefix) \(writer) \(number) "
                + String(repeating: "x", count: Int.random(in: 0...200, using: &random))
            if isHot { ledger.withLock { _ = $0.writtenToHot[key, default: []].insert(value) } }
            let client = clients[Int.random(in: 0..<clients.count, using: &random)]
            do throws(ClientError) {
                try await client.put(Key(key), Array(value.utf8))
                acknowledged(key, value, isHot)
            } catch {
                failed(key, value, isHot, error)
                // A node that is down refuses at once; a short rest leaves the processor to those that come up.
                try? await Task.sleep(for: .milliseconds(5))
            }
        }
    }

    private func acknowledged(_ key: String, _ value: String, _ isHot: Bool) {
        ledger.withLock { ledger in
            ledger.attempts += 1
            ledger.acknowledgements += 1
            if isHot { ledger.lastOfHot[key] = value } else { ledger.acknowledged[key] = value }
        }
    }

    private func failed(_ key: String, _ value: String, _ isHot: Bool, _ error: ClientError) {
        ledger.withLock { ledger in
            ledger.attempts += 1
            ledger.failures["\(error)", default: 0] += 1
            switch (error.outcome, isHot) {
            case (.notExecuted, false): ledger.refused.insert(key)
            case (.notExecuted, true): break
            case (_, false): ledger.unknown[key] = value
            case (_, true): ledger.unknownOfHot[key, default: []].insert(value)
            }
        }
    }

    /// Holds what a client sees against what was noted. Call it when no writer runs any more.
    func verify(_ client: KontikiClient, _ context: String) async throws {
        let found = try await Listing.all(client, prefix: Key(prefix + "/")).mapValues {
            String(decoding: $0, as: UTF8.self)
        }
        let ledger = ledger.withLock { $0 }
        for (key, value) in ledger.acknowledged {
            #expect(found[key] == value, "\(context): an acknowledged write is lost or changed: \(key)")
        }
        for (key, value) in ledger.unknown {
            if let there = found[key] { #expect(there == value, "\(context): \(key) holds what was never written") }
        }
        for key in ledger.refused {
            #expect(found[key] == nil, "\(context): \(key) was said not to be executed, and is there")
        }
        for key in ledger.writtenToHot.keys {
            let allowed = ledger.unknownOfHot[key, default: []].union(ledger.lastOfHot[key].map { [$0] } ?? [])
            if let there = found[key] {
                #expect(
                    allowed.contains(there),
                    "\(context): \(key) does not hold the last acknowledged value: \(there)"
                )
            } else {
                #expect(ledger.lastOfHot[key] == nil, "\(context): \(key) is lost")
            }
        }
        let known = Set(ledger.acknowledged.keys).union(ledger.unknown.keys).union(ledger.writtenToHot.keys)
        #expect(
            Set(found.keys).subtracting(known).subtracting(ledger.refused).isEmpty,
            "\(context): keys that nobody wrote"
        )
    }
}
