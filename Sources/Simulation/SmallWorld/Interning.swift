/// Stores each value once and numbers it, in the order in which they come.
struct Interner<Value: Hashable> {
    private(set) var values: [Value] = []
    private var numbers: [Value: UInt32] = [:]  // only ever looked up, never iterated

    var count: Int { values.count }

    subscript(number: UInt32) -> Value { values[Int(number)] }

    mutating func number(of value: Value) -> UInt32 {
        if let known = numbers[value] { return known }
        let number = UInt32(values.count)
        values.append(value)
        numbers[value] = number
        return number
    }
}

/// A hash table from pairs of numbers to a number, without any overhead per entry.
struct PairTable {
    private var keys: [UInt64]
    private var values: [UInt32]
    private var mask: Int
    private(set) var count = 0

    init() {
        keys = Array(repeating: .max, count: 1 << 10)
        values = Array(repeating: 0, count: 1 << 10)
        mask = (1 << 10) - 1
    }

    subscript(first: UInt32, second: UInt32) -> UInt32? {
        get {
            let key = UInt64(first) << 32 | UInt64(second)
            let slot = slot(of: key)
            return keys[slot] == key ? values[slot] : nil
        }
        set {
            guard let newValue else { preconditionFailure("nothing is forgotten") }
            let key = UInt64(first) << 32 | UInt64(second)
            precondition(key != .max, "the pair of the highest numbers marks a free slot")
            var slot = slot(of: key)
            if keys[slot] != key {
                if count * 3 > mask * 2 {
                    grow()
                    slot = self.slot(of: key)
                }
                keys[slot] = key
                count += 1
            }
            values[slot] = newValue
        }
    }

    private func slot(of key: UInt64) -> Int {
        var slot = Int(truncatingIfNeeded: mixed(key)) & mask
        while keys[slot] != key, keys[slot] != .max { slot = (slot + 1) & mask }
        return slot
    }

    private mutating func grow() {
        let (oldKeys, oldValues) = (keys, values)
        mask = 2 * (mask + 1) - 1
        keys = Array(repeating: .max, count: mask + 1)
        values = Array(repeating: 0, count: mask + 1)
        for (position, key) in oldKeys.enumerated() where key != .max {
            let slot = slot(of: key)
            keys[slot] = key
            values[slot] = oldValues[position]
        }
    }
}

/// All worlds found, each a fixed number of 32-bit words and the place of the world it was found from, in the order
/// of discovery. The table is the queue of the search as well: what lies behind the world being expanded is its
/// frontier.
struct StateTable {
    let width: Int
    private(set) var count = 0
    private var chunks: [[UInt32]] = []
    /// Places of worlds, plus one; 0 marks a free slot.
    private var slots: [UInt32]
    private var mask: Int

    private static let chunkBits = 16
    private static let chunkMask = (1 << chunkBits) - 1

    init(width: Int) {
        self.width = width
        self.slots = Array(repeating: 0, count: 1 << 12)
        self.mask = (1 << 12) - 1
    }

    /// Copies the world at `place` to `state`.
    func read(_ place: Int, into state: inout [UInt32]) {
        let start = (place & Self.chunkMask) * (width + 1)
        let chunk = place >> Self.chunkBits
        for position in 0..<width { state[position] = chunks[chunk][start + position] }
    }

    /// The place of the world from which the one at `place` was found; nil for the first.
    func parent(of place: Int) -> Int? {
        let parent = chunks[place >> Self.chunkBits][(place & Self.chunkMask) * (width + 1) + width]
        return parent == .max ? nil : Int(parent)
    }

    /// Answers whether the world is new.
    mutating func insert(_ state: [UInt32], parent: UInt32) -> Bool {
        var slot = Int(truncatingIfNeeded: Self.hash(state)) & mask
        while slots[slot] != 0 {
            if matches(state, Int(slots[slot]) - 1) { return false }
            slot = (slot + 1) & mask
        }
        if count & Self.chunkMask == 0 {
            chunks.append([])
            chunks[chunks.count - 1].reserveCapacity((width + 1) << Self.chunkBits)
        }
        chunks[chunks.count - 1].append(contentsOf: state)
        chunks[chunks.count - 1].append(parent)
        count += 1
        slots[slot] = UInt32(count)
        if count * 3 > mask * 2 { grow() }
        return true
    }

    private func matches(_ state: [UInt32], _ place: Int) -> Bool {
        let start = (place & Self.chunkMask) * (width + 1)
        let chunk = place >> Self.chunkBits
        for position in 0..<width where chunks[chunk][start + position] != state[position] { return false }
        return true
    }

    private mutating func grow() {
        mask = 2 * (mask + 1) - 1
        slots = Array(repeating: 0, count: mask + 1)
        var state = Array(repeating: UInt32(0), count: width)
        for place in 0..<count {
            read(place, into: &state)
            var slot = Int(truncatingIfNeeded: Self.hash(state)) & mask
            while slots[slot] != 0 { slot = (slot + 1) & mask }
            slots[slot] = UInt32(place + 1)
        }
    }

    private static func hash(_ state: [UInt32]) -> UInt64 {
        var hash: UInt64 = 0
        for word in state { hash = mixed(hash ^ UInt64(word)) }
        return hash
    }
}

/// The last step of SplitMix64: the same in every process.
private func mixed(_ value: UInt64) -> UInt64 {
    var value = value &+ 0x9e37_79b9_7f4a_7c15
    value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
    return value ^ (value >> 31)
}
