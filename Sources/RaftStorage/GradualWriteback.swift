internal import Glibc
internal import LMDB

/// Keeps the system writing while a large file grows, a few MiB at a time, so that no flush ever has much to do: one large flush
/// would hold up those of the log, on the same disk, for as long as it takes.
struct GradualWriteback {
    private static let window: UInt64 = 2 << 20

    private let file: File
    /// Up to here it was waited for.
    private var written: UInt64
    /// Up to here writing was begun.
    private var begun: UInt64

    /// `offset` is where the file ends now.
    init(_ file: File, from offset: UInt64 = 0) {
        self.file = file
        (written, begun) = (offset, offset)
    }

    /// To be called when the file has grown up to `offset`.
    mutating func grew(to offset: UInt64) throws(LMDBError) {
        guard offset >= begun + Self.window else { return }
        if begun > written {
            try file.awaitWriteback(from: written, count: begun - written)
            written = begun
        }
        try file.startWriteback(from: begun, count: offset - begun)
        begun = offset
    }
}

/// Keeps background work to a rate, by sleeping.
struct Pace {
    private let bytesPerSecond: Int?
    private var freeAt: ContinuousClock.Instant = .now

    /// Nil is no bound.
    init(bytesPerSecond: Int?) { self.bytesPerSecond = bytesPerSecond.map { max(1, $0) } }

    /// Sleeps until `bytes` more fit into the rate, or until `isHurried` says that there is no time for that.
    mutating func wait(for bytes: Int, isHurried: () -> Bool) {
        guard let bytesPerSecond else { return }
        // Time that went by unused is not saved up.
        freeAt = max(freeAt, .now) + .nanoseconds(Int64(Double(bytes) / Double(bytesPerSecond) * 1e9))
        while !isHurried() {
            let left = ContinuousClock.now.duration(to: freeAt)
            guard left > .zero else { return }
            let microseconds = left.components.seconds * 1_000_000 + left.components.attoseconds / 1_000_000_000_000
            usleep(UInt32(min(max(microseconds, 1), 50_000)))
        }
    }
}
