internal import Checksum
internal import LMDB

extension Backend {
    /// What an examination of a generation's file found.
    struct Findings {
        var report = ExaminationReport()
        /// Damages of records, and of what the record of the state tells.
        var damages: [Damage] = []
        /// The record of the state; that of an empty one when none was written; nil when it cannot be read.
        var record: StateRecord? = StateRecord()
        var hasRecord = false
        /// User keys.
        var keyCount: UInt64 = 0
        var recordCount: UInt64 = 0
        var contentBytes: UInt64 = 0
        /// What the items make as the state's hash.
        var hash: UInt128 = 0
        /// Set when another version of the program wrote the record of the state, whose items are not judged then.
        var otherFormat: StoreError?
        /// Records whose own checksum is wrong.
        var corruptItems: UInt64 = 0
        /// The record of the history, if there is one; and what is there of the history.
        var history: (state: HistoryState, extent: HistoryExtent)?
        var isHistoryUnreadable = false
        var extent = HistoryExtent()

        var all: [Damage] { report.damages + damages }
    }

    /// The number of a transaction with its checksum.
    static func stamp(_ transactionID: UInt64) -> [UInt8] {
        var bytes = withUnsafeBytes(of: transactionID.littleEndian) { [UInt8]($0) }
        withUnsafeBytes(of: CRC32C.checksum(bytes).littleEndian) { bytes.append(contentsOf: $0) }
        return bytes
    }

    /// The transaction that a commit was written in; nil in states of versions that did not write it down.
    private static func stamp(of commit: DataFile.Commit) -> UInt64? {
        guard let bytes = commit.value(forKey: commitKey, in: databaseNames[1]), bytes.count == 12 else { return nil }
        let number = bytes.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
        return stamp(number) == bytes ? number : nil
    }

    private static func examination() -> ExaminationOptions {
        var options = ExaminationOptions(layout: .named(databaseNames))
        options.stamp = { stamp(of: $0) }
        return options
    }

    /// Looks at the pages of a file, and verifies its records, before LMDB may open it.
    static func examineForOpening(_ path: String, _ lock: DirectoryLock, _ options: StoreOptions) throws {
        guard try DataFile.exists(directory: path) else { return }
        if options.verification == .background {
            var examination = examination()
            examination.isShallow = true
            let (report, _) = try DataFile.examineForOpening(directory: path, holding: lock, examination)
            guard report.isSound else { throw StoreError.damaged(path, report.damages) }
            return
        }
        var findings = try examine(path: path)
        if let correction = findings.report.correction {
            try DataFile.apply(correction, directory: path)
            findings = try examine(path: path)
        }
        if let error = findings.otherFormat { throw error }
        guard findings.all.isEmpty else { throw StoreError.damaged(path, findings.all) }
    }

    /// Reads everything, and verifies each record. Nobody may have the file open.
    static func examine(
        path: String,
        progress: ((_ done: UInt64, _ total: UInt64) -> Void)? = nil,
        visit: ((_ key: UnsafeRawBufferPointer, _ record: StoredRecord) -> Void)? = nil
    ) throws -> Findings {
        let collector = Collector(path)
        var options = examination()
        options.progress = progress
        options.visit = { database, key, value in
            switch databaseNames[database] {
            case "items": collector.takeItem(key, value, visit)
            case "history": collector.takeChange(key, value)
            case "deletions": collector.takeDeletion(key, value)
            default: collector.takeMeta(key, value)
            }
        }
        let report = try DataFile.examine(directory: path, options)
        var findings = collector.findings
        findings.report = report
        if let otherFormat = findings.otherFormat {
            findings.record = nil
            findings.damages = [Damage(.record, otherFormat.message)]
            return findings
        }
        findings.compareCounts()
        findings.compareHistory()
        return findings
    }

    /// Takes in what an examination finds. A class, because the examination keeps what it calls.
    private final class Collector {
        private(set) var findings = Findings()
        private let path: String

        init(_ path: String) { self.path = path }

        private func damage(_ what: String) {
            findings.corruptItems += 1
            if findings.corruptItems <= 20 { findings.damages.append(Damage(.record, what)) }
        }

        func takeItem(
            _ key: UnsafeRawBufferPointer,
            _ value: UnsafeRawBufferPointer,
            _ visit: ((UnsafeRawBufferPointer, StoredRecord) -> Void)?
        ) {
            guard Space.isValid(rawKey: key), let item = StoredRecord(value, key: key),
                let hash = item.recomputedHash(key: key)
            else { return damage("the record of \(Space.describe(rawKey: key)) is corrupt") }
            findings.recordCount += 1
            findings.hash &+= hash
            guard key.first == Space.keys.rawValue else { return }
            findings.keyCount += 1
            findings.contentBytes += UInt64(key.count - 1 + item.valueLength)
            visit?(key, item)
        }

        func takeChange(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
            guard let record = HistoryRecord(value, key: key), record.isIntact(key: key) else {
                let name = HistoryRecord.split(key).map { Space.describe(rawKey: $0.key) } ?? "an unknown key"
                return damage("a record of the history of \(name) is corrupt")
            }
            findings.extent.add(record: record.checksum)
        }

        func takeDeletion(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
            guard let revision = DeletionRecord.decode(value, key: key) else {
                return damage("the record of the deletion of \(Space.describe(rawKey: key)) is corrupt")
            }
            findings.extent.add(deletion: revision, key)
        }

        func takeMeta(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
            if key.elementsEqual(historyKey) {
                findings.history = HistoryState.decode(value)
                guard findings.history == nil else { return }
                findings.damages.append(Damage(.record, "the record of the history is corrupt"))
                findings.isHistoryUnreadable = true
            }
            guard key.elementsEqual(recordKey) else { return }
            findings.hasRecord = true
            do throws(StoreError) {
                findings.record = try StateRecord(decoding: value, path: path)
            } catch {
                findings.record = nil
                if error.code != .corrupt { findings.otherFormat = error }
                findings.damages.append(Damage(.record, error.message))
            }
        }
    }
}

extension Backend.Findings {
    /// What was found against what the record of the state tells.
    fileprivate mutating func compareCounts() {
        guard let record, report.isSound, corruptItems == 0 else { return }
        if !hasRecord, recordCount > 0 {
            damages.append(Damage(.record, "there are items, but no record of the state that they belong to"))
            return
        }
        if record.keyCount != keyCount || record.contentBytes != contentBytes || record.recordCount != recordCount {
            damages.append(
                Damage(
                    .count,
                    "the record of the state tells of \(record.keyCount) keys with \(record.contentBytes) bytes and "
                        + "\(record.recordCount) records in all, there are \(keyCount) with \(contentBytes), and \(recordCount)"
                )
            )
        } else if record.hash != hash {
            let what = "every item is sound by itself, but together they are not the state whose hash was kept"
            damages.append(Damage(.count, what))
        }
    }
}

extension Backend.Findings {
    /// What was found of the history against what its record tells.
    fileprivate mutating func compareHistory() {
        guard report.isSound, corruptItems == 0, !isHistoryUnreadable else { return }
        if history == nil, let record, record.mark.revision > 0 {
            damages.append(Damage(.record, "the record of the history is missing"))
            return
        }
        let told = history?.extent ?? HistoryExtent()
        if told.records != extent.records || told.deletions != extent.deletions {
            damages.append(
                Damage(
                    .count,
                    "the record of the history tells of \(told.records) changes and \(told.deletions) deleted keys, there are "
                        + "\(extent.records) and \(extent.deletions)"
                )
            )
        } else if told.sum != extent.sum {
            let what = "every record of the history is sound by itself, but together they are not those that were kept"
            damages.append(Damage(.count, what))
        } else if let state = history?.state, let record, state.last.revision > record.mark.revision {
            damages.append(Damage(.record, "the record of the history goes beyond the state's revision"))
        }
    }
}

extension StoreError {
    /// A file with these damages must not be opened.
    static func damaged(_ path: String, _ damages: [Damage]) -> StoreError {
        let shown = damages.prefix(3).map(\.description).joined(separator: "; ")
        let more = damages.count > 3 ? "; and \(damages.count - 3) more" : ""
        return .corrupt(path, "the file data.mdb is damaged (\(shown)\(more))")
    }
}
