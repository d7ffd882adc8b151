/// A half-open range of keys, raw ones where nothing else is said.
struct KeyBounds: Hashable, Sendable {
    /// Included.
    private(set) var lower: [UInt8] = []
    /// Excluded; nil for no bound.
    private(set) var upper: [UInt8]?

    /// The keys that begin with `prefix`.
    init(prefix: [UInt8]) {
        raise(toAtLeast: prefix)
        lower(toBelow: Self.successor(ofPrefix: prefix))
    }

    mutating func raise(toAtLeast key: [UInt8]) {
        let key = Self.shortened(key)
        if lower.lexicographicallyPrecedes(key) { lower = key }
    }

    /// Nil is no bound.
    mutating func lower(toBelow key: [UInt8]?) {
        guard let key = key.map(Self.shortened) else { return }
        if let upper, !key.lexicographicallyPrecedes(upper) { return }
        upper = key
    }

    /// The same bounds of the raw keys of a space.
    func raw(_ space: Space) -> KeyBounds {
        var raw = KeyBounds(prefix: [space.rawValue])
        raw.raise(toAtLeast: space.raw(lower))
        raw.lower(toBelow: upper.map { space.raw($0) })
        return raw
    }

    mutating func makeEmpty() { upper = [] }

    var isEmpty: Bool { upper.map { !lower.lexicographicallyPrecedes($0) } ?? false }

    func isBeyondUpper(_ key: UnsafeRawBufferPointer) -> Bool {
        upper?.withUnsafeBytes { key.compare(to: $0) >= 0 } ?? false
    }

    func isBelowLower(_ key: UnsafeRawBufferPointer) -> Bool { lower.withUnsafeBytes { key.compare(to: $0) < 0 } }

    /// The lowest key above all that begin with `prefix`; nil when there is none.
    static func successor(ofPrefix prefix: some Sequence<UInt8>) -> [UInt8]? {
        var bytes = Array(prefix)
        while let last = bytes.popLast() {
            if last < .max {
                bytes.append(last + 1)
                return bytes
            }
        }
        return nil
    }

    /// No stored key is longer than the limit, so a longer bound cuts as its first bytes and one zero do. LMDB does not
    /// search for longer ones.
    private static func shortened(_ key: [UInt8]) -> [UInt8] {
        guard key.count > Space.maximumRawKeyLength else { return key }
        return key.prefix(Space.maximumRawKeyLength) + [0]
    }
}
