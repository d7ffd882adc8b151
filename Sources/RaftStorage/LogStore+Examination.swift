package import LMDB
package import Raft

extension LogStore {
    /// Looks at every page of the log's file before LMDB, which would believe them, may open it.
    static func examineForOpening(_ directory: String, _ lock: DirectoryLock) throws {
        let (report, _) = try DataFile.examineForOpening(directory: directory, holding: lock, examination())
        guard report.isSound else {
            throw StorageError(
                .corrupt,
                "the log's file \(directory)/data.mdb is damaged: \(Self.text(report.damages)); \(StorageError.remedy)"
            )
        }
    }

    static func examination() -> ExaminationOptions {
        var options = ExaminationOptions(layout: .unnamed(hasIntegerKeys: true))
        options.stamp = stamp
        return options
    }

    /// Looks at pages and records behind entry `index` for some milliseconds, for checking in the background; from any thread, while the
    /// log is written. Answers where to go on, or nil at the end.
    package func scrub(behind index: LogIndex?, milliseconds: Int) throws(StorageError) -> LogIndex? {
        try storing {
            var fault: StorageError?
            let key = index.map { index in withUnsafeBytes(of: index) { [UInt8]($0) } }
            let slice = try environment.scrub(nil, hasIntegerKeys: true, behind: key, milliseconds: milliseconds) {
                key,
                value in
                guard fault == nil else { return }
                let index = key.loadUnaligned(as: UInt64.self)
                do throws(StorageError) {
                    if index == 0 {
                        _ = try MetadataRecord(verifying: value)
                    } else {
                        _ = try EntryRecord(verifying: value, index: index)
                    }
                } catch {
                    fault = error
                }
            }
            guard slice.damages.isEmpty else {
                throw StorageError(.corrupt, "\(Self.text(slice.damages)); \(StorageError.remedy)")
            }
            if let fault { throw fault }
            guard !slice.isAtEnd, let last = slice.lastKey, last.count == 8 else { return nil }
            return last.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
        }
    }

    /// The first damages as one line.
    package static func text(_ damages: [Damage]) -> String {
        let shown = damages.prefix(3).map(\.description).joined(separator: "; ")
        return damages.count > 3 ? "\(shown); and \(damages.count - 3) more" : shown
    }

    /// The number of the transaction that a commit was written with: every transaction writes the record under key 0 or the last
    /// entry. Nil in logs of version 1, and of newer ones.
    @Sendable
    static func stamp(_ commit: DataFile.Commit) -> UInt64? {
        var numbers: [UInt64] = []
        if let record = commit.value(forKey: 0) {
            guard record.first ?? 0 <= LogRecord.version else { return nil }
            if let number = try? record.withUnsafeBytes({ try MetadataRecord.transactionID(verifying: $0) }) {
                numbers.append(number)
            }
        }
        if let (index, record) = commit.last(), index > 0,
            let entry = try? record.withUnsafeBytes({ try EntryRecord(verifying: $0, index: index).transactionID })
        {
            numbers.append(entry)
        }
        return numbers.max()
    }
}
