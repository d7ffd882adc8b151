import KeyValue

/// A generator with a seed, so that a failure can be run again.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}

extension Command {
    /// A random command over few keys, so that commands meet.
    static func random(using generator: inout SeededGenerator, latestRevision: UInt64) -> Command {
        let key = randomKey(using: &generator)[...]
        let condition: Condition =
            switch Int.random(in: 0..<10, using: &generator) {
            case 0: .absent
            case 1: .exists
            case 2: .modRevision(UInt64.random(in: 0...max(1, latestRevision), using: &generator))
            case 3: .modRevision(latestRevision)
            default: .none
            }
        let returnsPrevious = Bool.random(using: &generator)
        switch Int.random(in: 0..<100, using: &generator) {
        case 0..<65:
            return .put(
                key: key,
                value: randomValue(using: &generator)[...],
                contentType: [nil, "text/plain", "application/json", "x/\u{fc}ml", ""].randomElement(
                    using: &generator
                )!,
                condition: condition,
                returnsPrevious: returnsPrevious
            )
        case 65..<93: return .delete(key: key, condition: condition, returnsPrevious: returnsPrevious)
        case 93: return .put(key: [UInt8](repeating: 7, count: 481)[...], value: [1])
        default: return .deletePrefix(randomPrefix(using: &generator)[...])
        }
    }

    static func randomKey(using generator: inout SeededGenerator) -> [UInt8] {
        var key = randomPrefix(using: &generator)
        let tail = Array(String(Int.random(in: 0..<40, using: &generator)).utf8)
        key += Int.random(in: 0..<20, using: &generator) == 0 ? [UInt8](repeating: 0xff, count: 480 - key.count) : tail
        return key
    }

    static func randomPrefix(using generator: inout SeededGenerator) -> [UInt8] {
        let prefixes = ["a", "a/", "a/b/", "a/b/c", "b/", "users/", "users/x/"].map { Array($0.utf8) }
        return (prefixes + [[0xff], [0xff, 0xff], [0x00], [0x61, 0x2f, 0x00]]).randomElement(using: &generator)!
    }

    private static func randomValue(using generator: inout SeededGenerator) -> [UInt8] {
        let length =
            switch Int.random(in: 0..<10, using: &generator) {
            case 0: 0
            case 1: Int.random(in: 2_000..<20_000, using: &generator)
            default: Int.random(in: 1..<64, using: &generator)
            }
        return (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }
}
