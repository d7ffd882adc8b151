/// Which pages of a file have a use.
struct PageUsage {
    private var words: [UInt64] = []
    private(set) var count: UInt64 = 0
    /// The last page that has a use.
    private(set) var last: UInt64 = 0
    private let isCounting: Bool

    /// Counts nothing.
    init() { isCounting = false }

    init(pages: UInt64) {
        isCounting = true
        words = [UInt64](repeating: 0, count: Int(pages / 64) + 1)
    }

    /// False when the page had a use already. The page must be one of those that there are.
    mutating func mark(_ page: UInt64) -> Bool {
        guard isCounting else { return true }
        let (word, bit) = (Int(page / 64), UInt64(1) << (page % 64))
        guard words[word] & bit == 0 else { return false }
        words[word] |= bit
        count += 1
        last = max(last, page)
        return true
    }
}

/// Examines all that one commit of a data file holds.
struct CommitExaminer {
    private let file: DataFile
    private let meta: DataFile.Meta
    private let options: ExaminationOptions
    private let scratch: Scratch
    private var usage: PageUsage
    private(set) var damages: [Damage] = []
    private(set) var entries: [UInt64] = []
    private(set) var freePages: UInt64 = 0
    private(set) var bytesRead: UInt64 = 0
    private var nextProgress: UInt64 = 0

    init(file: DataFile, meta: DataFile.Meta, options: ExaminationOptions) {
        self.file = file
        self.meta = meta
        self.options = options
        scratch = Scratch(pageSize: meta.pageSize)
        usage = PageUsage()
    }

    /// The last page that is in use or free.
    var lastUsedPage: UInt64 { usage.last }

    /// Pages that are neither in use nor free.
    var lostPages: UInt64 { meta.lastPage - 1 - min(usage.count, meta.lastPage - 1) }

    mutating func run() {
        // The last pages of a commit may be free and never have been written; so many are no reason to doubt the file.
        guard meta.lastPage < file.size / UInt64(meta.pageSize) + 1 << 16 else {
            damages.append(
                Damage(.truncated, "the file has \(file.size) bytes, its last page is number \(meta.lastPage)")
            )
            return
        }
        usage = PageUsage(pages: meta.lastPage)
        examineFreeList()
        switch options.layout {
        case .unnamed(let hasIntegerKeys):
            guard checkFlags(meta.main, hasIntegerKeys ? 8 : 0, "the unnamed database") else { return }
            examine(meta.main, hasIntegerKeys: hasIntegerKeys, database: 0)
        case .named(let names): examineNamed(names)
        }
    }

    private mutating func checkFlags(_ tree: DataFile.Tree, _ flags: UInt16, _ what: String) -> Bool {
        // One that nothing was written to yet has no flags.
        guard tree.flags == flags || (tree.flags == 0 && tree.root == DataFile.noPage) else {
            damages.append(Damage(.database, "\(what) has the flags \(tree.flags), not \(flags)"))
            return false
        }
        return true
    }

    // MARK: Databases

    private mutating func examine(_ tree: DataFile.Tree, hasIntegerKeys: Bool, database: Int) {
        var walker = walker(tree, hasIntegerKeys: hasIntegerKeys)
        if let visit = options.visit { walker.visit = { visit(database, $0, $1) } }
        finish(&walker)
        entries.append(walker.entries)
    }

    private mutating func examineNamed(_ names: [String]) {
        guard checkFlags(meta.main, 0, "the database of names") else { return }
        var trees = [DataFile.Tree?](repeating: nil, count: names.count)
        var strangers: [String] = []
        var walker = walker(meta.main, hasIntegerKeys: false)
        walker.purpose = .names
        walker.visit = { key, value in
            let name = String(decoding: key, as: UTF8.self)
            guard let index = names.firstIndex(of: name), value.count == DataFile.Tree.encodedSize,
                let base = value.baseAddress
            else { return strangers.append(name) }
            trees[index] = DataFile.Tree(base)
        }
        finish(&walker)
        for name in strangers {
            damages.append(Damage(.database, page: meta.main.root, "there is a database “\(name)”, which is not known"))
        }
        for (index, tree) in trees.enumerated() {
            guard let tree else {
                entries.append(0)
                continue
            }
            guard checkFlags(tree, 0, "the database “\(names[index])”") else {
                entries.append(0)
                continue
            }
            examine(tree, hasIntegerKeys: false, database: index)
        }
        let missing = trees.indices.filter { trees[$0] == nil }
        if let index = missing.first, missing.count < names.count, meta.transactionID > UInt64(names.count) {
            damages.append(Damage(.database, "there is no database “\(names[index])”"))
        }
    }

    private func walker(_ tree: DataFile.Tree, hasIntegerKeys: Bool) -> TreeWalker {
        TreeWalker(file: file, meta: meta, tree: tree, hasIntegerKeys: hasIntegerKeys, scratch: scratch)
    }

    /// Runs a walk with the use of pages that is known so far.
    private mutating func finish(_ walker: inout TreeWalker) {
        let (total, before) = ((meta.lastPage + 1) * UInt64(meta.pageSize), bytesRead)
        var next = nextProgress
        if let progress = options.progress {
            walker.onPage = { read in
                guard before + read >= next else { return }
                next = before + read + 1 << 23
                progress(min(before + read, total), total)
            }
        }
        walker.usage = usage
        usage = PageUsage()
        walker.run()
        usage = walker.usage
        walker.usage = PageUsage()
        nextProgress = next
        bytesRead += walker.bytesRead
        damages = Array((damages + walker.damages).prefix(TreeWalker.maximumDamages))
    }

    // MARK: The free list

    /// Each record tells, under the number of the transaction that freed them, of pages in descending order.
    private mutating func examineFreeList() {
        var walker = walker(meta.free, hasIntegerKeys: true)
        walker.purpose = .freeList
        let (lastPage, transactionID) = (meta.lastPage, meta.transactionID)
        var (pages, faults): ([UInt64], [Damage]) = ([], [])
        walker.visit = { key, value in
            let number = key.loadUnaligned(as: UInt64.self)
            func fault(_ what: String) {
                if faults.count < TreeWalker.maximumDamages {
                    faults.append(Damage(.freeList, "the pages freed by commit \(number) \(what)"))
                }
            }
            guard number > 0, number <= transactionID else { return fault("are of the future") }
            guard value.count >= 8, value.count % 8 == 0 else { return fault("take \(value.count) bytes") }
            let count = value.loadUnaligned(as: UInt64.self)
            guard count < UInt64(value.count / 8) else {
                return fault("are said to be \(count), for which there is no room")
            }
            var previous = UInt64.max
            for index in 0..<Int(count) {
                let page = value.loadUnaligned(fromByteOffset: 8 * (index + 1), as: UInt64.self)
                guard page >= 2, page <= lastPage, page < previous else {
                    return fault("are not in order or out of range")
                }
                previous = page
                pages.append(page)
            }
        }
        finish(&walker)
        damages += faults
        for page in pages where !usage.mark(page) {
            damages.append(Damage(.doubleUse, page: page, "it is free and in use, or free twice"))
            if damages.count >= TreeWalker.maximumDamages { return }
        }
        freePages = UInt64(pages.count)
    }
}
