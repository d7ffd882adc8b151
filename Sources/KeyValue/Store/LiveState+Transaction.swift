extension LiveState {
    /// Compares and executes inside the present scratch.
    mutating func execute(_ transaction: Transaction, _ reader: inout BatchReader) throws -> TransactionOutcome {
        let succeeded = try transaction.compares.allSatisfy { try holds($0, &reader) }
        var budget = TransactionBudget()
        var results: [OperationResult] = []
        for (number, operation) in (succeeded ? transaction.success : transaction.failure).enumerated() {
            results.append(try execute(operation, number, &budget, &reader))
        }
        return TransactionOutcome(succeeded: succeeded, revision: record.mark.revision, results: results)
    }

    private func holds(_ compare: Transaction.Compare, _ reader: inout BatchReader) throws -> Bool {
        var needsValue = false
        if case .value = compare.target { needsValue = true }
        let current = try find(Space.keys.raw(compare.key), withItem: needsValue, &reader)
        let metadata = current.metadata ?? ItemMetadata(createRevision: 0, modRevision: 0, version: 0)
        switch compare.target {
        case .value(let value):
            guard let item = current.item else { return compare.relation == .notEqual }
            let order = item.value.withUnsafeBytes { left in value.withUnsafeBytes { left.compare(to: $0) } }
            return compare.relation.holds(order)
        case .version(let number): return compare.relation.holds(metadata.version, number)
        case .createRevision(let number): return compare.relation.holds(metadata.createRevision, number)
        case .modRevision(let number): return compare.relation.holds(metadata.modRevision, number)
        case .lease(let number): return compare.relation.holds(metadata.lease, number)
        case .exists(let exists): return compare.relation.holds((current.metadata != nil) == exists ? 0 : 1)
        }
    }

    private mutating func execute(
        _ operation: Transaction.Operation,
        _ number: Int,
        _ budget: inout TransactionBudget,
        _ reader: inout BatchReader
    ) throws -> OperationResult {
        switch operation {
        case .put(let put):
            let current = try find(Space.keys.raw(put.key), withItem: false, &reader)
            let metadata = try self.put(put, over: current, &reader)
            return .put(
                createRevision: metadata.createRevision,
                version: metadata.version,
                created: current.metadata == nil
            )
        case .delete(let key):
            let rawKey = Space.keys.raw(key)
            let current = try find(rawKey, withItem: false, &reader)
            return .deleted(count: try delete(rawKey, current, &reader) ? 1 : 0)
        case .deletePrefix(let prefix):
            let count = try deletePrefix(Space.keys.raw(prefix), limit: budget.deletedKeys, &reader)
            budget.deletedKeys -= count
            return .deleted(count: count)
        case .get(let key):
            let item = try find(Space.keys.raw(key), withItem: true, &reader).item
            if let item { try budget.spend(item.key.count + item.value.count) }
            return .item(item)
        case .range(let prefix, let limit): return try range(prefix, limit, &budget, &reader)
        case .increment(let key, let by):
            let outcome = try increment(key, by, operation: number, &reader)
            guard case .incremented(_, let value, let createRevision, let version) = outcome else {
                preconditionFailure("an increment without a condition is executed or refused")
            }
            return .incremented(value: value, createRevision: createRevision, version: version)
        }
    }

    private func range(
        _ prefix: ArraySlice<UInt8>,
        _ limit: Int,
        _ budget: inout TransactionBudget,
        _ reader: inout BatchReader
    ) throws -> OperationResult {
        var items: [Item] = []
        var more = false
        let bounds = KeyBounds(prefix: Space.keys.raw(prefix))
        try makeView().scan(bounds, passing: { try reader.spend(1) }) { scanned in
            guard items.count < limit else {
                more = true
                return .stop
            }
            let size = scanned.withUserKey { $0.count } + scanned.valueLength
            // Before the value is read.
            try budget.spend(size)
            try reader.spend(reading: size)
            items.append(try scanned.item(keysOnly: false))
            return .next
        }
        return .range(items: items, more: more)
    }
}

/// What a transaction may still answer and delete.
private struct TransactionBudget {
    var deletedKeys = KeyValueLimits.maximumDeletedKeys
    private var resultBytes = KeyValueLimits.maximumResultBytes
    private var resultItems = KeyValueLimits.maximumResultItems

    /// One more key is answered, with so many bytes of key and value.
    mutating func spend(_ bytes: Int) throws {
        resultItems -= 1
        guard resultItems >= 0 else { throw Refusal(.tooLarge(.resultItems)) }
        resultBytes -= bytes + KeyValueLimits.resultItemBytes
        guard resultBytes >= 0 else { throw Refusal(.tooLarge(.resultBytes)) }
    }
}

extension Transaction.Compare.Relation {
    /// `order` is below, at or above 0 when what is there is below, at or above the target.
    fileprivate func holds(_ order: Int) -> Bool {
        switch self {
        case .equal: order == 0
        case .notEqual: order != 0
        case .less: order < 0
        case .greater: order > 0
        }
    }

    fileprivate func holds(_ present: UInt64, _ target: UInt64) -> Bool {
        holds(present < target ? -1 : present > target ? 1 : 0)
    }
}
