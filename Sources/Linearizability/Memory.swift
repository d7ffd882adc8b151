/// The configurations that led nowhere: an open-addressed hash table, its keys in flat arrays.
struct Memory<State: Hashable> {
    private struct Key {
        var hash: UInt64
        var round: Int32
        /// Where its words begin.
        var words: Int
        var state: State
    }

    private var keys: [Key] = []
    private var words: [UInt64] = []
    /// Places in `keys`, plus one; 0 is empty. The count is a power of two.
    private var slots: [Int32] = []
    private var countInRound: [Int32]
    /// How many of a configuration's last words say which optional operations are used.
    private let usedWords: Int

    init(rounds: Int, usedWords: Int) {
        countInRound = Array(repeating: 0, count: rounds)
        self.usedWords = usedWords
    }

    func hasAny(_ round: Int) -> Bool { countInRound[round] > 0 }

    /// Whether there is a configuration that is the same but for optional operations that it did not use.
    func contains(round: Int, state: State, words sought: [UInt64]) -> Bool {
        let hash = Self.hash(round, state, sought.dropLast(usedWords))
        let exact = sought.count - usedWords
        var slot = Int(truncatingIfNeeded: hash) & (slots.count - 1)
        while slots[slot] != 0 {
            let key = keys[Int(slots[slot]) - 1]
            if key.hash == hash, key.round == Int32(round), key.state == state {
                let isSame = (0..<exact).allSatisfy { words[key.words + $0] == sought[$0] }
                if isSame, (exact..<sought.count).allSatisfy({ words[key.words + $0] & ~sought[$0] == 0 }) {
                    return true
                }
            }
            slot = (slot + 1) & (slots.count - 1)
        }
        return false
    }

    mutating func insert(round: Int, state: State, words added: [UInt64]) {
        if (keys.count + 1) * 2 > slots.count { grow() }
        let hash = Self.hash(round, state, added.dropLast(usedWords))
        keys.append(Key(hash: hash, round: Int32(round), words: words.count, state: state))
        words.append(contentsOf: added)
        countInRound[round] += 1
        place(keys.count - 1)
    }

    private mutating func grow() {
        slots = Array(repeating: 0, count: max(64, slots.count * 2))
        for number in keys.indices { place(number) }
    }

    private mutating func place(_ number: Int) {
        var slot = Int(truncatingIfNeeded: keys[number].hash) & (slots.count - 1)
        while slots[slot] != 0 { slot = (slot + 1) & (slots.count - 1) }
        slots[slot] = Int32(number + 1)
    }

    private static func hash(_ round: Int, _ state: State, _ words: ArraySlice<UInt64>) -> UInt64 {
        var mixed = UInt64(bitPattern: Int64(state.hashValue)) ^ (UInt64(round) &* 0x9E37_79B9_7F4A_7C15)
        for word in words {
            mixed = (mixed ^ word) &* 0xBF58_476D_1CE4_E5B9
            mixed ^= mixed >> 29
        }
        return mixed
    }
}
