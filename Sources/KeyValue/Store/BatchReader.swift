internal import LMDB

/// The read transaction that one hold of the lock uses for all its lookups, begun with the first; and what its commands may still cost.
///
/// A unit of cost is one key that a scan passes, about half a microsecond.
struct BatchReader: ~Copyable {
    private var transaction: ReadTransaction?
    /// What a command may cost, and what the present one may still.
    private let allowance: Int
    private var rest: Int
    /// Asked when a command has used up its allowance; it gets another one unless the answer is true. Nil where it gets none.
    private let isGivenUp: (() -> Bool)?
    /// False while a command is executed that costs little whatever it finds.
    var isBounded = true

    init(allowance: Int, isGivenUp: (() -> Bool)?) {
        transaction = nil
        self.allowance = allowance
        rest = allowance
        self.isGivenUp = isGivenUp
    }

    mutating func withTransaction(
        of backend: Backend,
        _ body: (borrowing ReadTransaction) throws -> Void
    ) throws {
        let open = try transaction.take() ?? backend.environment.beginRead()
        // Not kept after an error: the caller gives up then.
        try body(open)
        transaction = consume open
    }

    /// The next command begins. Answers what the last one has cost.
    mutating func beginCommand() -> Int {
        defer { rest = allowance }
        return allowance - rest
    }

    /// Throws ``LongCommand/Pause`` when the command has cost too much, before it changes anything for good.
    mutating func spend(_ cost: Int) throws {
        rest -= cost
        guard rest < 0, isBounded else { return }
        guard let isGivenUp, !isGivenUp() else { throw LongCommand.Pause() }
        rest = allowance
    }

    /// SHA-256 takes about a nanosecond a byte.
    mutating func spend(hashing bytes: Int) throws { try spend(bytes >> 9) }

    /// Copied and checked, and perhaps encoded as a part of an outcome.
    mutating func spend(reading bytes: Int) throws { try spend(bytes >> 10) }
}
