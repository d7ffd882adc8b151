import KontikiClient
import Synchronization

/// Writers that change a bounded set of keys for ever: puts of small and big values, deletes, reads and lists.
final class Churn: Sendable {
    private struct State {
        var isStopped = false
        var count = 0
        var bytes = 0
    }

    private let state = Mutex(State())
    private let seed: UInt64

    init(seed: UInt64) { self.seed = seed }

    /// Writes that were acknowledged, and the bytes of their values.
    var count: Int { state.withLock { $0.count } }
    var bytes: Int { state.withLock { $0.bytes } }

    func stop() { state.withLock { $0.isStopped = true } }

    /// Goes on until it is stopped. Throws what the client could not overcome by trying again; but a write whose outcome is unknown, as when
    /// the leader was killed, is as good as another.
    func run(_ writer: Int, _ client: KontikiClient) async throws {
        var random = SeededGenerator(seed: seed &+ UInt64(writer))
        while !state.withLock({ $0.isStopped }) {
            let choice = Int.random(in: 0..<100, using: &random)
            let key = Key("churn/\(Int.random(in: 0..<2_000, using: &random))")
            let size = Int.random(in: choice == 60 ? 50_000...200_000 : 0...2_000, using: &random)
            do throws(ClientError) {
                switch choice {
                case 0..<61: try await put(key, size, client)
                case 61..<85: try await delete(key, client)
                case 85..<99: _ = try await client.get(key, consistency: choice % 2 == 0 ? .strong : .stale)
                default: _ = try await client.list(prefix: Key("churn/1"), limit: 100)
                }
            } catch {
                guard error.outcome == .unknown else { throw error }
            }
        }
    }

    private func put(_ key: Key, _ size: Int, _ client: KontikiClient) async throws(ClientError) {
        try await client.put(key, [UInt8](repeating: UInt8(truncatingIfNeeded: size), count: size))
        note(size)
    }

    private func delete(_ key: Key, _ client: KontikiClient) async throws(ClientError) {
        try await client.delete(key)
        note(0)
    }

    private func note(_ bytes: Int) {
        state.withLock {
            $0.count += 1
            $0.bytes += bytes
        }
    }
}
