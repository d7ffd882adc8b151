internal import NIOCore

/// Spreads bytes over time: says how long to wait before the next ones.
struct Throttle {
    private let bytesPerSecond: Int?
    private var freeAt = NIODeadline.uptimeNanoseconds(0)

    /// No bound when `bytesPerSecond` is nil.
    init(bytesPerSecond: Int?) { self.bytesPerSecond = bytesPerSecond.map { max(1, $0) } }

    /// Zero when bytes may leave at `now`.
    func pause(at now: NIODeadline) -> TimeAmount { freeAt > now ? freeAt - now : .zero }

    /// Counts `bytes` as sent at `now`. Time that went by unused is not saved up.
    mutating func sent(_ bytes: Int, at now: NIODeadline) {
        guard let bytesPerSecond else { return }
        let seconds = Double(bytes) / Double(bytesPerSecond)
        freeAt = max(freeAt, now) + .nanoseconds(Int64(min(seconds, 3600) * 1e9))
    }

    /// The chunk to send at once: smaller where the rate is low, so that the stream flows instead of jerking.
    func chunkBytes(atMost bytes: Int) -> Int {
        guard let bytesPerSecond else { return bytes }
        return min(bytes, max(4096, bytesPerSecond / 8))
    }
}
