/// Decides what of the changes that no sync has made durable reached the disk.
struct CutChoice {
    /// What of one change.
    enum Kept: Hashable {
        case nothing
        case whole
        /// The first pieces of it.
        case first(Int)
        /// Each piece with a probability, in 256ths.
        case pieces(UInt8)
    }

    enum Mode: Hashable {
        case nothing
        case all
        case only(Int)
        case allBut(Int)
        /// The changes before that one, and pieces of it.
        case before(Int)
        /// Each change whole or not, with a probability in 256ths.
        case changes(UInt8)
        /// Each piece of each change, likewise.
        case pieces(UInt8)
        /// Some of each.
        case mixed
    }

    let mode: Mode
    /// The size of a piece, in bytes.
    let unit: Int
    /// Whether a file's length may be another than its content says.
    let mayChangeSizes: Bool
    private var random: SeededNumbers
    private var position = 0

    /// - Parameters:
    ///   - number: which of the images of this cut; 0 has nothing of the changes, 1 all.
    ///   - count: how many changes there are.
    init(number: Int, count: Int, seed: UInt64) {
        var random = SeededNumbers(seed: mix(seed, UInt64(number)))
        unit = random.next() & 1 == 0 ? 512 : 4096
        // Each change alone, and all but each, come by turns with what is drawn.
        let single = number % 2 == 0 ? number / 2 - 1 : 2 * count
        let isPlain = number < 2 || single < 2 * count
        mayChangeSizes = !isPlain && random.next() & 3 == 0
        let probability = UInt8(truncatingIfNeeded: [64, 128, 192][Int(random.next() % 3)])
        let one = Int(random.next() % UInt64(max(count, 1)))
        switch number {
        case 0: mode = .nothing
        case 1: mode = .all
        case _ where single < count: mode = .only(single)
        case _ where isPlain: mode = .allBut(single - count)
        default:
            switch random.next() % 8 {
            case 0: mode = .before(one)
            case 1, 2: mode = .changes(probability)
            case 3, 4: mode = .pieces(probability)
            case 5: mode = .allBut(one)
            default: mode = .mixed
            }
        }
        self.random = random
    }

    /// The fate of the next change.
    mutating func next() -> Kept {
        defer { position += 1 }
        switch mode {
        case .nothing: return .nothing
        case .all: return .whole
        case .only(let one): return position == one ? .whole : .nothing
        case .allBut(let one): return position == one ? .nothing : .whole
        case .before(let one):
            if position == one { return .first(Int(random.next() % 8)) }
            return position < one ? .whole : .nothing
        case .changes(let probability): return draw(probability) ? .whole : .nothing
        case .pieces(let probability): return .pieces(probability)
        case .mixed:
            switch random.next() % 4 {
            case 0: return .nothing
            case 1: return .whole
            case 2: return .first(Int(random.next() % 8))
            default: return .pieces(128)
            }
        }
    }

    /// A change that cannot be torn: of a directory.
    mutating func nextWhole() -> Bool {
        switch next() {
        case .nothing: false
        case .whole: true
        case .first(let count): count > 3
        case .pieces(let probability): draw(probability)
        }
    }

    mutating func keeps(_ kept: Kept, _ piece: Int) -> Bool {
        switch kept {
        case .nothing: false
        case .whole: true
        case .first(let count): piece < count
        case .pieces(let probability): draw(probability)
        }
    }

    mutating func pick(_ end: Int, among sizes: [Int]) -> Int {
        draw(128) ? end : sizes[Int(random.next() % UInt64(sizes.count))]
    }

    private mutating func draw(_ probability: UInt8) -> Bool { random.next() & 0xff < UInt64(probability) }
}

/// Numbers that follow from a seed (SplitMix64).
package struct SeededNumbers: RandomNumberGenerator, Sendable {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        return mix(state, 0)
    }
}
