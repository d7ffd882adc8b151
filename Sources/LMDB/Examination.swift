/// Something in a data file that is not as LMDB writes it.
package struct Damage: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Kind: String, Hashable, Sendable {
        /// A read of the file failed.
        case unreadable
        /// The file ends before a page that is in use.
        case truncated
        /// A meta page is not one.
        case meta
        /// A transaction number is not the one that the content was written with: a commit may be hidden, or an old one be shown.
        case transactionNumber = "transaction-number"
        /// A page's header, or what lies where in it, is wrong.
        case page
        /// A record inside a page has a size or a kind that cannot be.
        case node
        /// Keys are not in order, or not between those of the page above.
        case order
        /// A page is in use twice, or in use and free.
        case doubleUse = "double-use"
        /// The numbers of pages or entries that a database tells of itself are not those that were found.
        case count
        /// The record of free pages is malformed.
        case freeList = "free-list"
        /// A database that should not be there, or has another kind of keys.
        case database
        /// A record's own checksum or form is wrong; what callers found.
        case record
    }

    package var kind: Kind
    /// The number of the page in the file; nil where it is about more than one.
    package var page: UInt64?
    package var message: String

    package init(_ kind: Kind, page: UInt64? = nil, _ message: String) {
        self.kind = kind
        self.page = page
        self.message = message
    }

    package var description: String { page.map { "page \($0): \(message)" } ?? message }
}

/// Which databases a data file is to hold.
package enum DatabaseLayout: Hashable, Sendable {
    /// Only the unnamed one.
    case unnamed(hasIntegerKeys: Bool)
    /// Those with these names, keyed by bytes; none of them need be there yet.
    case named([String])

    var names: [String] {
        switch self {
        case .unnamed: []
        case .named(let names): names
        }
    }
}

/// What an examination found.
package struct ExaminationReport: Sendable {
    /// What is wrong; at most a hundred, the rest would say the same.
    package var damages: [Damage] = []
    /// What is unusual and harms nothing.
    package var notes: [String] = []
    /// The number of the newest commit.
    package var transactionID: UInt64 = 0
    /// Entries found in each database: of the unnamed one, or in the order of the layout's names.
    package var entries: [UInt64] = []
    /// Pages of the file that are, or once were, in use.
    package var pages: UInt64 = 0
    package var freePages: UInt64 = 0
    /// Bytes that were read.
    package var bytesRead: UInt64 = 0
    /// How the meta pages can be put right, when all that is wrong is a transaction number that the content proves.
    package var correction: MetaCorrection?

    package init() {}

    package var isSound: Bool { damages.isEmpty }
}

/// Transaction numbers that the content proves, to be written into the meta pages.
package struct MetaCorrection: Hashable, Sendable {
    /// The meta page (0 or 1) of the newest commit, its number, and the last page in use.
    var newest: Int
    var transactionID: UInt64
    var lastPage: UInt64
}

/// How a data file is examined.
package struct ExaminationOptions {
    package var layout: DatabaseLayout
    /// Only the meta pages and the transaction numbers: some milliseconds, whatever the size.
    package var isShallow = false
    /// Tells the number of the transaction that a commit was written with, where its records hold it; nil for older ones.
    package var stamp: (DataFile.Commit) -> UInt64? = { _ in nil }
    /// Called for each record with the database (see ``ExaminationReport/entries``), its key and its value, valid for the call.
    package var visit: ((_ database: Int, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void)?
    /// Called now and then with the bytes read and the bytes there are.
    package var progress: ((_ done: UInt64, _ total: UInt64) -> Void)?

    package init(layout: DatabaseLayout) { self.layout = layout }
}

extension DataFile {
    /// Examines the data file of the environment in `directory` without LMDB, which would believe what it reads: both meta pages, every
    /// page in use, the free list, and that each page has one use. Whatever the file holds, the answer is a report.
    ///
    /// Nobody may write to the file meanwhile. Throws only when the file cannot be opened.
    package static func examine(
        directory: String,
        _ options: ExaminationOptions
    ) throws(LMDBError) -> ExaminationReport {
        let file = try DataFile(directory: directory)
        var report = ExaminationReport()
        guard file.size > 0 else {
            report.notes.append("the file is empty: a creation that was cut short")
            return report
        }
        let metas = file.metas(&report)
        guard
            let newest = metas.indices.filter({ metas[$0] != nil }).max(by: { one, two in
                (metas[one]?.transactionID ?? 0) < (metas[two]?.transactionID ?? 0)
            }), let meta = metas[newest]
        else { return report }
        report.transactionID = meta.transactionID
        if !options.isShallow {
            var examiner = CommitExaminer(file: file, meta: meta, options: options)
            examiner.run()
            report.take(examiner)
        }
        report.pages = meta.lastPage + 1
        if let other = metas[1 - newest] {
            compareNumbers(file, (newest, meta), other, options, &report)
        }
        return report
    }

    /// Each commit's number must be the one that its records were written with, and the two must follow each other.
    private static func compareNumbers(
        _ file: DataFile,
        _ newest: (page: Int, meta: Meta),
        _ other: Meta,
        _ options: ExaminationOptions,
        _ report: inout ExaminationReport
    ) {
        let otherPage = 1 - newest.page
        let shown = options.stamp(Commit(file: file, meta: newest.meta))
        let hidden = options.stamp(Commit(file: file, meta: other))
        var damages: [Damage] = []
        if let shown, shown != newest.meta.transactionID {
            damages.append(
                Damage(
                    .transactionNumber,
                    page: UInt64(newest.page),
                    "the meta page tells commit \(newest.meta.transactionID), its records were written in \(shown)"
                )
            )
        }
        if let hidden, hidden != other.transactionID, hidden > newest.meta.transactionID {
            damages.append(
                Damage(
                    .transactionNumber,
                    page: UInt64(otherPage),
                    "the newest commit, \(hidden), is hidden: its meta page tells \(other.transactionID)"
                )
            )
        }
        let isFresh = newest.meta.transactionID == 0
        if !isFresh, newest.meta.transactionID != other.transactionID &+ 1, damages.isEmpty {
            damages.append(
                Damage(
                    .transactionNumber,
                    "the meta pages tell the commits \(newest.meta.transactionID) and \(other.transactionID), "
                        + "which do not follow each other"
                )
            )
        }
        guard !damages.isEmpty else { return }
        if report.damages.allSatisfy({ $0.kind == .transactionNumber }) {
            let numbers = newest.page == 0 ? (shown, hidden) : (hidden, shown)
            report.correction = correction(
                file,
                newest.page == 0 ? [newest.meta, other] : [other, newest.meta],
                [numbers.0, numbers.1],
                options
            )
        }
        report.damages += damages
    }

    /// The numbers that the records prove, when the newest commit by them is sound in every page.
    private static func correction(
        _ file: DataFile,
        _ metas: [Meta],
        _ stamps: [UInt64?],
        _ options: ExaminationOptions
    ) -> MetaCorrection? {
        let newest = (stamps[0] ?? 0) > (stamps[1] ?? 0) ? 0 : 1
        guard let number = stamps[newest], number > 0, number & 1 == UInt64(newest) else { return nil }
        let other = 1 - newest
        guard (stamps[other] ?? metas[other].transactionID) == number - 1 else { return nil }
        var meta = metas[newest]
        meta.transactionID = number
        // A commit whose meta page could not be written has got back the former last page: its own may lie anywhere in the file.
        let told = max(metas[0].lastPage, metas[1].lastPage)
        meta.lastPage = max(told, file.size / UInt64(meta.pageSize) - 1)
        var quiet = options
        (quiet.visit, quiet.progress) = (nil, nil)
        var examiner = CommitExaminer(file: file, meta: meta, options: quiet)
        examiner.run()
        guard examiner.damages.isEmpty else { return nil }
        let lastPage = max(told, examiner.lastUsedPage)
        return MetaCorrection(newest: newest, transactionID: number, lastPage: lastPage)
    }
}

extension ExaminationReport {
    fileprivate mutating func take(_ examiner: CommitExaminer) {
        damages += examiner.damages
        entries = examiner.entries
        freePages = examiner.freePages
        bytesRead += examiner.bytesRead
        if examiner.damages.isEmpty, examiner.lostPages > 0 {
            notes.append("\(examiner.lostPages) pages are neither in use nor free; they only take room")
        }
    }
}
