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
        /// Items whose own checksum is wrong.
        var corruptItems: UInt64 = 0

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
        var findings = Findings()
        var (damages, record, hasRecord): ([Damage], StateRecord?, Bool) = ([], StateRecord(), false)
        var otherFormat: StoreError?
        var (keys, records, bytes, corrupt): (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
        var hash: UInt128 = 0
        var options = examination()
        options.progress = progress
        options.visit = { database, key, value in
            if database == 0 {
                guard Space.isValid(rawKey: key), let item = StoredRecord(value, key: key),
                    let itemHash = item.recomputedHash(key: key)
                else {
                    corrupt += 1
                    if corrupt <= 20 {
                        let name = Space.describe(rawKey: key)
                        damages.append(Damage(.record, "the record of \(name) is corrupt"))
                    }
                    return
                }
                records += 1
                hash &+= itemHash
                guard key.first == Space.keys.rawValue else { return }
                keys += 1
                bytes += UInt64(key.count - 1 + item.valueLength)
                visit?(key, item)
            } else if key.elementsEqual(recordKey) {
                hasRecord = true
                do throws(StoreError) {
                    record = try StateRecord(decoding: value, path: path)
                } catch {
                    record = nil
                    if error.code != .corrupt { otherFormat = error }
                    damages.append(Damage(.record, error.message))
                }
            }
        }
        findings.report = try DataFile.examine(directory: path, options)
        findings.hasRecord = hasRecord
        if let otherFormat {
            findings.otherFormat = otherFormat
            findings.record = nil
            findings.damages = [Damage(.record, otherFormat.message)]
            return findings
        }
        (findings.damages, findings.record, findings.hash) = (damages, record, hash)
        (findings.keyCount, findings.contentBytes, findings.corruptItems) = (keys, bytes, corrupt)
        findings.recordCount = records
        findings.compareCounts()
        return findings
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

extension StoreError {
    /// A file with these damages must not be opened.
    static func damaged(_ path: String, _ damages: [Damage]) -> StoreError {
        let shown = damages.prefix(3).map(\.description).joined(separator: "; ")
        let more = damages.count > 3 ? "; and \(damages.count - 3) more" : ""
        return .corrupt(path, "the file data.mdb is damaged (\(shown)\(more))")
    }
}
