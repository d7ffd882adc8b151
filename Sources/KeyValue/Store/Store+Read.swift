internal import Checksum
internal import LMDB

extension Store {
    /// What one hold of the lock finds for a lookup.
    private enum Found: ~Copyable {
        case decided(Item?, StateMark)
        case below(ReadTransaction, Backend, StateMark)
    }

    /// A key's item, and the mark of the cut that it was read from. A key that cannot exist (empty, too long) does not.
    public func get(_ key: ArraySlice<UInt8>) throws -> (item: Item?, mark: StateMark) {
        guard Command.validate(keyLength: key.count) == nil else { return (nil, mark) }
        return try record(.keys, key)
    }

    /// The record of a key in a space as an item. The raw key is of a length that can be looked up.
    func record(_ space: Space, _ key: ArraySlice<UInt8>) throws -> (item: Item?, mark: StateMark) {
        try withRawKey(space, key) { key in
            let found = try state.withLock { state throws -> Found in
                switch state.lookUp(key) {
                case .gone: .decided(nil, state.record.mark)
                case .entry(let entry): .decided(entry.item(), state.record.mark)
                case .below: .below(try state.backend.environment.beginRead(), state.backend, state.record.mark)
                }
            }
            switch consume found {
            case .decided(let item, let mark): return (item, mark)
            case .below(let transaction, let backend, let mark):
                guard let record = try backend.record(of: key, in: transaction) else { return (nil, mark) }
                return (try backend.item(record, key: key), mark)
            }
        }
    }

    /// How many keys begin with `prefix`. All keys are counted at once; otherwise it takes a look at each.
    public func count(prefix: [UInt8]) throws -> (count: Int, mark: StateMark) {
        if prefix.isEmpty { return state.withLock { (Int(clamping: $0.record.keyCount), $0.record.mark) } }
        let counted = try count(RangeQuery(prefix: prefix))
        return (counted.count, counted.mark)
    }

    /// A raw key for the time of a call.
    private func withRawKey<Result>(
        _ space: Space,
        _ key: ArraySlice<UInt8>,
        _ body: (UnsafeRawBufferPointer) throws -> Result
    ) throws -> Result {
        try withUnsafeTemporaryAllocation(byteCount: key.count + 1, alignment: 1) { buffer in
            var writer = BufferWriter(buffer)
            writer.write(space.rawValue)
            key.withUnsafeBytes { writer.write(raw: $0) }
            return try body(UnsafeRawBufferPointer(buffer))
        }
    }

    /// A checksum over every item with its metadata, in the order of the keys: equal for equal states. Reads everything,
    /// under one read transaction.
    public func checksum() throws -> (checksum: UInt32, mark: StateMark) {
        let view = try state.withLock { try $0.makeView() }
        var checksum = CRC32C()
        try view.scan(KeyBounds(prefix: [])) { scanned in
            let item = try scanned.item(keysOnly: false)
            let contentType = Array((item.contentType ?? "").utf8)
            checksum.update(scanned.withKey { $0.first ?? 0 })
            for part in [item.key, item.value, contentType[...]] {
                checksum.update(UInt64(part.count))
                checksum.update(part)
            }
            for number in [item.createRevision, item.modRevision, item.version, item.lease] { checksum.update(number) }
            return .next
        }
        return (checksum.value, view.mark)
    }
}
