internal import Checksum
internal import Glibc

/// One file, or what is left of it: what is surely on the disk, and what was done to it since.
final class DiskFile {
    static let pageSize = 4096
    private static let zeroPage = [UInt8](repeating: 0, count: pageSize)

    /// Something done to the content that no sync has made durable.
    struct Change {
        enum Kind {
            case write(offset: Int, bytes: [UInt8])
            case truncate(Int)
        }

        let sequence: UInt64
        let kind: Kind
        /// Durable, but kept here because older changes that are not may lie below it.
        var isDurable = false
        /// The size of the file behind it.
        let size: Int
    }

    /// Names the file in hashes.
    let number: UInt64
    /// A file whose content nobody reads after a crash: locks.
    let isIrrelevant: Bool
    private(set) var pages: [Int: [UInt8]] = [:]
    private var pageHashes: [Int: UInt64] = [:]
    private(set) var hash: UInt64 = 0
    private(set) var size = 0
    private(set) var changes: [Change] = []
    /// The size with all changes.
    private(set) var presentSize = 0

    init(number: UInt64, isIrrelevant: Bool) {
        self.number = number
        self.isIrrelevant = isIrrelevant
    }

    /// Content that is durable from the beginning.
    convenience init(number: UInt64, isIrrelevant: Bool, content: [UInt8]) {
        self.init(number: number, isIrrelevant: isIrrelevant)
        guard !isIrrelevant else { return }
        presentSize = content.count
        apply(.write(offset: 0, bytes: content))
    }

    var hasOptionalChanges: Bool { changes.contains { !$0.isDurable } }

    // MARK: What happens

    func write(_ bytes: [UInt8], at offset: Int, sequence: UInt64) {
        guard !isIrrelevant, !bytes.isEmpty else { return }
        presentSize = max(presentSize, offset + bytes.count)
        changes.append(.init(sequence: sequence, kind: .write(offset: offset, bytes: bytes), size: presentSize))
    }

    func truncate(to size: Int, sequence: UInt64) {
        guard !isIrrelevant, size != presentSize else { return }
        presentSize = size
        changes.append(.init(sequence: sequence, kind: .truncate(size), size: size))
    }

    /// What was done before `sequence` is durable.
    func synchronized(before sequence: UInt64) {
        for index in changes.indices where changes[index].sequence < sequence { changes[index].isDurable = true }
        settle()
    }

    /// That one write is durable.
    func synchronized(write sequence: UInt64) {
        for index in changes.indices where changes[index].sequence == sequence { changes[index].isDurable = true }
        settle()
    }

    private func settle() {
        while let first = changes.first, first.isDurable {
            apply(first.kind)
            changes.removeFirst()
        }
    }

    private func apply(_ kind: Change.Kind) {
        switch kind {
        case .write(let offset, let bytes):
            for page in Self.patch(bytes, 0..<bytes.count, at: offset, in: &pages) { rehash(page) }
            size = max(size, offset + bytes.count)
        case .truncate(let new):
            for page in Self.cut(to: new, in: &pages) { rehash(page) }
            size = new
        }
    }

    private func rehash(_ page: Int) {
        let new = Self.hash(of: pages[page], at: page)
        hash = hash &- (pageHashes[page] ?? 0) &+ new
        pageHashes[page] = new
    }

    // MARK: Pages

    /// Puts a part of some bytes into pages; pages that are not there are zeros. Answers which it changed.
    private static func patch(
        _ bytes: [UInt8],
        _ range: Range<Int>,
        at offset: Int,
        in pages: inout [Int: [UInt8]]
    ) -> [Int] {
        var changed: [Int] = []
        var position = range.lowerBound
        while position < range.upperBound {
            let (page, start) = (offset + position).quotientAndRemainder(dividingBy: pageSize)
            let count = min(pageSize - start, range.upperBound - position)
            pages[page, default: zeroPage].withUnsafeMutableBytes { target in
                bytes.withUnsafeBytes { source in
                    _ = memcpy(target.baseAddress! + start, source.baseAddress! + position, count)
                }
            }
            changed.append(page)
            position += count
        }
        return changed
    }

    private static func cut(to size: Int, in pages: inout [Int: [UInt8]]) -> [Int] {
        let changed = pages.keys.filter { ($0 + 1) * pageSize > size }
        for page in changed {
            let kept = size - page * pageSize
            if kept <= 0 {
                pages[page] = nil
            } else {
                pages[page]?.withUnsafeMutableBytes { _ = memset($0.baseAddress! + kept, 0, pageSize - kept) }
            }
        }
        return changed
    }

    /// Zeros count nothing: whether a hole or zeros stand there is the same.
    private static func hash(of page: [UInt8]?, at number: Int) -> UInt64 {
        guard let page else { return 0 }
        let isZero = page.withUnsafeBytes { page in
            zeroPage.withUnsafeBytes { memcmp(page.baseAddress!, $0.baseAddress!, pageSize) == 0 }
        }
        guard !isZero else { return 0 }
        return page.withUnsafeBytes { bytes in
            var (first, second) = (CRC32C(), CRC32C())
            first.update(bytes)
            second.update(UInt64(number))
            second.update(bytes)
            return mix(UInt64(first.value) << 32 | UInt64(second.value), UInt64(number))
        }
    }

    // MARK: Images

    /// What a power cut left of the file.
    struct Image {
        var size: Int
        var pages: [Int: [UInt8]]
        var hash: UInt64
    }

    /// What is there when of each change those pieces reached the disk that `choice` says; a piece of a later change of one sector
    /// brings the earlier ones with it.
    func image(_ choice: inout CutChoice) -> Image {
        guard !changes.isEmpty else { return Image(size: size, pages: pages, hash: hash) }
        let kept = changes.map { $0.isDurable ? CutChoice.Kept.whole : choice.next() }
        var image = Image(size: size, pages: pages, hash: hash)
        var touched: Set<Int> = []
        var end = size
        let pieces = chosenPieces(kept, choice.unit, &choice)
        for (index, change) in changes.enumerated() {
            switch change.kind {
            case .write(let offset, let bytes):
                for piece in pieces[index] {
                    touched.formUnion(Self.patch(bytes, piece, at: offset, in: &image.pages))
                    end = max(end, offset + piece.upperBound)
                }
            case .truncate(let new):
                guard kept[index] != .nothing else { continue }
                touched.formUnion(Self.cut(to: new, in: &image.pages))
                end = new
            }
        }
        image.size = chosenSize(end, kept, &choice)
        if image.size < end { touched.formUnion(Self.cut(to: image.size, in: &image.pages)) }
        for page in touched {
            image.hash = image.hash &- (pageHashes[page] ?? 0) &+ Self.hash(of: image.pages[page], at: page)
        }
        return image
    }

    /// Of each change the ranges of its bytes that are kept.
    private func chosenPieces(_ kept: [CutChoice.Kept], _ unit: Int, _ choice: inout CutChoice) -> [[Range<Int>]] {
        var pieces = [[Range<Int>]](repeating: [], count: changes.count)
        /// Sectors that a later change reached.
        var reached: Set<Int> = []
        let isSingle = changes.count == 1
        for index in changes.indices.reversed() {
            guard case .write(let offset, let bytes) = changes[index].kind else { continue }
            if kept[index] == .whole {
                pieces[index] = [0..<bytes.count]
                if !isSingle { reached.formUnion(offset / unit...(offset + bytes.count - 1) / unit) }
                continue
            }
            for sector in offset / unit...(offset + bytes.count - 1) / unit {
                guard reached.contains(sector) || choice.keeps(kept[index], sector - offset / unit) else { continue }
                reached.insert(sector)
                let range = max(0, sector * unit - offset)..<min(bytes.count, (sector + 1) * unit - offset)
                if let last = pieces[index].last, last.upperBound == range.lowerBound {
                    pieces[index][pieces[index].count - 1] = last.lowerBound..<range.upperBound
                } else {
                    pieces[index].append(range)
                }
            }
        }
        return pieces
    }

    /// The length is metadata of its own: it may be older than the content, or newer.
    private func chosenSize(_ end: Int, _ kept: [CutChoice.Kept], _ choice: inout CutChoice) -> Int {
        if kept.allSatisfy({ $0 == .whole }) { return presentSize }
        guard choice.mayChangeSizes else { return end }
        // What an O_DSYNC write made durable includes the length that it needs.
        let durable = changes.indices.last { changes[$0].isDurable }.map { changes[$0].size }
        let first = changes.indices.last { changes[$0].isDurable } ?? -1
        let sizes = [durable ?? size] + changes[(first + 1)...].map(\.size)
        return choice.pick(end, among: sizes)
    }
}

/// Mixes two numbers (SplitMix64).
func mix(_ first: UInt64, _ second: UInt64) -> UInt64 {
    var mixed = first &+ second &* 0x9E37_79B9_7F4A_7C15 &+ 0x9E37_79B9_7F4A_7C15
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
}
