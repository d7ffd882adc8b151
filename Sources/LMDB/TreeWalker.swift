/// Walks one B+ tree of a data file, page by page, and checks what it finds.
struct TreeWalker {
    /// The keys that a subtree may hold: from `lower` on and below `upper`, the separators of the page above.
    private struct Bounds {
        var lower: UnsafeRawBufferPointer?
        var upper: UnsafeRawBufferPointer?
    }

    enum Purpose { case records, freeList, names }

    static let maximumDamages = 100
    private static let maximumDepth = 32
    private static let maximumKeyLength = 511

    let file: DataFile
    let meta: DataFile.Meta
    let tree: DataFile.Tree
    let hasIntegerKeys: Bool
    var purpose = Purpose.records
    /// Which pages have a use already; empty when uses are not counted.
    var usage = PageUsage()
    var visit: ((UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Void)?
    /// Called after each page with the bytes read so far.
    var onPage: ((UInt64) -> Void)?
    /// Only keys behind this one are visited.
    var behind: [UInt8]?
    /// Asked before each leaf; true ends the walk there.
    var shouldPause: (() -> Bool)?
    private(set) var isPaused = false
    /// The last key that was visited, when the walk was ended early.
    private(set) var lastKey: [UInt8]?
    private(set) var damages: [Damage] = []
    private(set) var branchPages: UInt64 = 0
    private(set) var leafPages: UInt64 = 0
    private(set) var overflowPages: UInt64 = 0
    private(set) var entries: UInt64 = 0
    private(set) var bytesRead: UInt64 = 0
    private let scratch: Scratch

    init(file: DataFile, meta: DataFile.Meta, tree: DataFile.Tree, hasIntegerKeys: Bool, scratch: Scratch? = nil) {
        self.file = file
        self.meta = meta
        self.tree = tree
        self.hasIntegerKeys = hasIntegerKeys
        self.scratch = scratch ?? Scratch(pageSize: meta.pageSize)
    }

    mutating func add(_ damage: Damage) {
        if damages.count < Self.maximumDamages { damages.append(damage) }
    }

    private var mustStop: Bool { isPaused || damages.count >= Self.maximumDamages }

    /// Walks the whole tree and compares the numbers that the tree tells of itself.
    mutating func run() {
        guard tree.root != DataFile.noPage else {
            if tree.depth != 0 || tree.entries != 0 || tree.branchPages != 0 || tree.leafPages != 0
                || tree.overflowPages != 0
            {
                add(Damage(.count, "a database without a root tells of \(tree.entries) entries"))
            }
            return
        }
        guard tree.depth >= 1, tree.depth <= Self.maximumDepth else {
            return add(Damage(.count, "a database tells of \(tree.depth) levels of pages"))
        }
        walk(tree.root, level: 1, Bounds())
        guard damages.isEmpty, behind == nil, !isPaused else { return }
        compare("branch pages", tree.branchPages, branchPages)
        compare("leaf pages", tree.leafPages, leafPages)
        compare("overflow pages", tree.overflowPages, overflowPages)
        compare("entries", tree.entries, entries)
    }

    private mutating func compare(_ what: String, _ told: UInt64, _ found: UInt64) {
        if told != found { add(Damage(.count, "a database tells of \(told) \(what), it has \(found)")) }
    }

    private mutating func load(_ number: UInt64, level: Int) throws(Damage) -> Page {
        guard number >= 2, number <= meta.lastPage else {
            throw Damage(.page, page: number, "there is no such page: the last one is \(meta.lastPage)")
        }
        guard usage.mark(number) else { throw Damage(.doubleUse, page: number, "it is in use twice") }
        let buffer = scratch.page(level)
        try file.read(buffer, at: number * UInt64(meta.pageSize), page: number)
        bytesRead += UInt64(meta.pageSize)
        onPage?(bytesRead)
        var page = Page(buffer)
        try page.check(number: number, slots: scratch.slots)
        guard page.isLeaf == (level == tree.depth) else {
            throw Damage(
                .page,
                page: number,
                "it is on level \(level) of \(tree.depth), where its kind does not belong"
            )
        }
        return page
    }

    private mutating func walk(_ number: UInt64, level: Int, _ bounds: Bounds) {
        do throws(Damage) {
            let page = try load(number, level: level)
            if page.isLeaf {
                leafPages += 1
                if let shouldPause, shouldPause() { isPaused = true }
                if isPaused { return }
                try walkLeaf(page, number, bounds)
            } else {
                branchPages += 1
                try checkBranch(page, number, bounds)
                for index in 0..<page.count where !mustStop {
                    let node = page.node(index)
                    let inner = Bounds(
                        lower: index == 0 ? bounds.lower : node.key,
                        upper: index + 1 < page.count ? page.node(index + 1).key : bounds.upper
                    )
                    if let behind, let upper = inner.upper,
                        behind.withUnsafeBytes({ upper.ordered(to: $0, asIntegers: hasIntegerKeys) }) <= 0
                    {
                        continue
                    }
                    walk(node.child, level: level + 1, inner)
                }
            }
        } catch {
            add(error)
        }
    }

    private func checkBranch(_ page: Page, _ number: UInt64, _ bounds: Bounds) throws(Damage) {
        guard page.count >= 2 || purpose == .freeList else {
            throw Damage(.page, page: number, "a branch with a single child")
        }
        // The key of the first child is not looked at, by LMDB neither.
        var previous = bounds.lower
        for index in 1..<max(page.count, 1) {
            let key = page.node(index).key
            try checkKey(key, number)
            if let previous, previous.ordered(to: key, asIntegers: hasIntegerKeys) >= 0 {
                throw Damage(.order, page: number, "its keys are not in order")
            }
            previous = key
        }
        if let previous, let upper = bounds.upper, previous.ordered(to: upper, asIntegers: hasIntegerKeys) >= 0 {
            throw Damage(.order, page: number, "its keys are not below that of the page above")
        }
    }

    private func checkKey(_ key: UnsafeRawBufferPointer, _ number: UInt64) throws(Damage) {
        guard hasIntegerKeys ? key.count == 8 : (1...Self.maximumKeyLength).contains(key.count) else {
            throw Damage(.node, page: number, "a key of \(key.count) bytes")
        }
    }

    private mutating func walkLeaf(_ page: Page, _ number: UInt64, _ bounds: Bounds) throws(Damage) {
        var previous: UnsafeRawBufferPointer?
        // All of a page's keys before any of its values, so that no value is believed on a page in disorder.
        for index in 0..<page.count {
            let key = page.node(index).key
            try checkKey(key, number)
            if let previous, previous.ordered(to: key, asIntegers: hasIntegerKeys) >= 0 {
                throw Damage(.order, page: number, "its keys are not in order")
            }
            if index == 0, let lower = bounds.lower, lower.ordered(to: key, asIntegers: hasIntegerKeys) > 0 {
                throw Damage(.order, page: number, "its first key is below that of the page above")
            }
            previous = key
        }
        if let previous, let upper = bounds.upper, previous.ordered(to: upper, asIntegers: hasIntegerKeys) >= 0 {
            throw Damage(.order, page: number, "its last key is not below that of the page above")
        }
        entries += UInt64(page.count)
        for index in 0..<page.count where !mustStop {
            let node = page.node(index)
            if let behind,
                behind.withUnsafeBytes({ node.key.ordered(to: $0, asIntegers: hasIntegerKeys) }) <= 0
            {
                continue
            }
            do throws(Damage) {
                let value = try value(of: node, page: number)
                visit?(node.key, value)
            } catch {
                add(error)
            }
        }
        if shouldPause != nil { lastKey = [UInt8](page.node(page.count - 1).key) }
    }

    /// The value of a leaf's node, read from its overflow pages where it has some.
    private mutating func value(of node: Page.Node, page number: UInt64) throws(Damage) -> UnsafeRawBufferPointer {
        let wanted: UInt16 = purpose == .names ? Page.subData : 0
        guard node.flags & ~Page.bigData == wanted else {
            throw Damage(.node, page: number, "a record has the flags \(node.flags)")
        }
        guard node.flags & Page.bigData != 0 else { return node.data }
        let first = node.data.loadUnaligned(as: UInt64.self)
        let pageSize = UInt64(meta.pageSize)
        let needed = (UInt64(DataFile.headerSize - 1) + UInt64(node.length)) / pageSize + 1
        guard first >= 2, first <= meta.lastPage, needed <= meta.lastPage - first + 1,
            (first + needed) * pageSize <= file.size
        else {
            throw Damage(
                .node,
                page: number,
                "a record of \(node.length) bytes points to page \(first), too near the end"
            )
        }
        let header = scratch.header
        try file.read(header, at: first * pageSize, page: first)
        let told = UInt64(header.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
        guard header.loadUnaligned(as: UInt64.self) == first,
            header.loadUnaligned(fromByteOffset: 10, as: UInt16.self) == Page.overflowFlag
        else { throw Damage(.page, page: first, "it is not the first of overflow pages, which page \(number) names") }
        guard told >= needed, told <= meta.lastPage - first + 1 else {
            throw Damage(.page, page: first, "it tells of \(told) pages, its record needs \(needed)")
        }
        for page in first..<first + told {
            guard usage.mark(page) else { throw Damage(.doubleUse, page: page, "it is in use twice") }
        }
        overflowPages += told
        guard visit != nil else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        let buffer = scratch.value(node.length)
        try file.read(buffer, at: first * pageSize + UInt64(DataFile.headerSize), page: first)
        bytesRead += needed * pageSize
        return UnsafeRawBufferPointer(buffer)
    }

    /// One key with its value, the last one without `key`; nil when it is not there, or when a page on the way is damaged.
    mutating func find(_ key: UnsafeRawBufferPointer?) -> (key: [UInt8], value: [UInt8])? {
        var number = tree.root
        guard (1...Self.maximumDepth).contains(Int(tree.depth)) else { return nil }
        do throws(Damage) {
            for level in 1...Int(tree.depth) {
                let page = try load(number, level: level)
                for index in page.isLeaf ? 0..<page.count : 1..<page.count {
                    try checkKey(page.node(index).key, number)
                }
                // The last node whose key is not above the one that is looked for.
                let index = (1..<max(page.count, 1)).last { index in
                    guard let key else { return true }
                    return page.node(index).key.ordered(to: key, asIntegers: hasIntegerKeys) <= 0
                }
                let node = page.node(index ?? 0)
                guard page.isLeaf else {
                    number = node.child
                    continue
                }
                if let key, node.key.ordered(to: key, asIntegers: hasIntegerKeys) != 0 { return nil }
                if node.flags & Page.subData != 0 { purpose = .names }
                visit = { _, _ in }
                return ([UInt8](node.key), [UInt8](try value(of: node, page: number)))
            }
        } catch {}
        return nil
    }
}

/// Buffers of a walk: one page for each level, one for a value.
final class Scratch {
    private let pageSize: Int
    private var pages: [UnsafeMutableRawBufferPointer] = []
    private var values = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    let slots: UnsafeMutablePointer<UInt16>
    let header = UnsafeMutableRawBufferPointer.allocate(byteCount: DataFile.headerSize, alignment: 8)

    init(pageSize: Int) {
        self.pageSize = pageSize
        slots = .allocate(capacity: pageSize / 2)
        slots.initialize(repeating: 0, count: pageSize / 2)
    }

    deinit {
        for page in pages { page.deallocate() }
        values.deallocate()
        slots.deallocate()
        header.deallocate()
    }

    func page(_ level: Int) -> UnsafeMutableRawBufferPointer {
        while pages.count <= level { pages.append(.allocate(byteCount: pageSize, alignment: 16)) }
        return pages[level]
    }

    func value(_ length: Int) -> UnsafeMutableRawBufferPointer {
        if values.count < length {
            values.deallocate()
            values = .allocate(byteCount: length, alignment: 16)
        }
        return UnsafeMutableRawBufferPointer(rebasing: values[..<length])
    }
}
