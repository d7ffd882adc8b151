/// Comparisons, and the operations for either answer: executed in one step, with one revision.
///
/// When all comparisons hold (or there are none), `success` is executed, else `failure`. Operations are executed in order, and later ones see
/// what earlier ones did; when one cannot be executed, none is.
public struct Transaction: Hashable, Sendable {
    public var compares: [Compare]
    public var success: [Operation]
    public var failure: [Operation]

    public init(compares: [Compare] = [], success: [Operation] = [], failure: [Operation] = []) {
        self.compares = compares
        self.success = success
        self.failure = failure
    }

    /// What is compared with what.
    public struct Compare: Hashable, Sendable {
        /// A key that is not there has the version, revisions and lease 0. It has no value: that is equal to none, and neither less nor greater.
        public enum Target: Hashable, Sendable {
            case value([UInt8])
            case version(UInt64)
            case createRevision(UInt64)
            case modRevision(UInt64)
            case exists(Bool)
            case lease(UInt64)
        }

        /// How what is there must stand to the target. ``notEqual`` is always the contrary of ``equal``; existence is not less or greater.
        public enum Relation: UInt8, Hashable, Sendable, CaseIterable {
            case equal = 0
            case notEqual = 1
            case less = 2
            case greater = 3
        }

        public var key: ArraySlice<UInt8>
        public var relation: Relation
        public var target: Target

        public init(key: ArraySlice<UInt8>, _ relation: Relation, _ target: Target) {
            self.key = key
            self.relation = relation
            self.target = target
        }
    }

    public enum Operation: Hashable, Sendable {
        /// Without a condition, and without the previous item.
        case put(Put)
        case delete(ArraySlice<UInt8>)
        /// An empty prefix is every key.
        case deletePrefix(ArraySlice<UInt8>)
        case get(ArraySlice<UInt8>)
        /// The first `limit` keys that begin with `prefix`, 1 to ``KeyValueLimits/maximumRangeLimit``.
        case range(prefix: ArraySlice<UInt8>, limit: Int)
        case increment(key: ArraySlice<UInt8>, by: Int64)
    }
}

/// What a transaction did.
public struct TransactionOutcome: Hashable, Sendable {
    /// Whether the comparisons held.
    public var succeeded: Bool
    /// The revision that it took, or the state's present one when it changed nothing.
    public var revision: UInt64
    /// One for each operation that was executed, in order.
    public var results: [OperationResult]

    public init(succeeded: Bool, revision: UInt64, results: [OperationResult]) {
        self.succeeded = succeeded
        self.revision = revision
        self.results = results
    }
}

/// What an operation of a transaction did. Items were read inside the transaction: they show what operations before changed.
public enum OperationResult: Hashable, Sendable {
    case put(createRevision: UInt64, version: UInt64, created: Bool)
    case deleted(count: Int)
    case item(Item?)
    case range(items: [Item], more: Bool)
    case incremented(value: Int64, createRevision: UInt64, version: UInt64)
}
