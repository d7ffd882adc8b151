/// What applying a command did. The same on every replica.
///
/// Every mutating command takes one revision. A command whose condition failed, a delete that found nothing and an invalid
/// command take none: `revision` is then the state's present one.
public enum Outcome: Hashable, Sendable {
    /// - created: whether the key was not there before.
    /// - previous: what the key held before, when the command asked for it and there was something.
    case put(revision: UInt64, createRevision: UInt64, version: UInt64, created: Bool, previous: Item?)
    /// - count: how many keys were deleted; 0 or 1 for a delete of one key.
    /// - previous: the deleted item, when a delete of one key asked for it.
    case deleted(revision: UInt64, count: Int, previous: Item?)
    /// - current: the key's metadata, nil when it is not there.
    case conditionFailed(revision: UInt64, current: ItemMetadata?)
    /// The entry was no command that this version understands. It changed nothing.
    case invalid(InvalidCommand)

    /// The revision that the command took, or the state's present one when it took none; nil for an invalid command.
    public var revision: UInt64? {
        switch self {
        case .put(let revision, _, _, _, _), .deleted(let revision, _, _), .conditionFailed(let revision, _): revision
        case .invalid: nil
        }
    }
}

/// Why a command is refused.
public enum InvalidCommand: String, Error, Hashable, Sendable, CustomStringConvertible {
    case malformed = "the command's bytes are malformed"
    case unknownVersion = "the command has a format version that this version does not know"
    case unknownOperation = "the command is of a kind that this version does not know"
    case unknownFlag = "the command carries a flag that this version does not know"
    case keyEmpty = "the key is empty; a key has 1 to 480 bytes"
    case keyTooLong = "the key is too long; a key has 1 to 480 bytes"
    case contentTypeTooLong = "the content type is too long; it has at most 255 bytes"
    case valueTooLarge = "the value is too large for a command"

    public var description: String { rawValue }
}
