import Foundation
import Linearizability
import Testing

/// Recorded histories with known verdicts, from anishathalye/porcupine's test data.
@Suite struct VectorTests {
    /// `shared/vectors` beside the repository, found from this file's place upward.
    private static let vectors: URL? = {
        var folder = URL(filePath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent()
        while folder.path != "/" {
            let candidate = folder.appending(path: "shared/vectors")
            if FileManager.default.fileExists(atPath: candidate.appending(path: "jepsen-etcd").path) {
                return candidate
            }
            folder.deleteLastPathComponent()
        }
        return nil
    }()

    private static func bytes(_ path: String) throws -> [UInt8] {
        Array(try Data(contentsOf: try #require(vectors).appending(path: path)))
    }

    @Test(
        "All 60 histories that Jepsen recorded of etcd get the verdict that is known",
        .enabled(if: vectors != nil, "shared/vectors/jepsen-etcd is absent: it is no part of the repository")
    )
    func jepsen() throws {
        let table = String(decoding: try Self.bytes("jepsen-etcd/verdicts.csv"), as: UTF8.self)
        let rows = table.split(separator: "\n").dropFirst().map { $0.split(separator: ",") }
        #expect(rows.count == 60)
        for row in rows {
            let report = try HistoryFormat.jepsenEtcd.check(try Self.bytes("jepsen-etcd/\(row[0])"))
            #expect(report.verdict == (row[1] == "true" ? .linearizable : .notLinearizable), "\(row[0])")
        }
    }

    @Test(
        "And so do porcupine's histories of a key-value store",
        .enabled(if: vectors != nil, "shared/vectors/porcupine-kv is absent: it is no part of the repository"),
        arguments: ["c01-ok", "c01-bad", "c10-ok", "c10-bad"]
    )
    func porcupine(name: String) throws {
        let report = try HistoryFormat.porcupineKeyValue.check(try Self.bytes("porcupine-kv/\(name).txt"))
        #expect(report.verdict == (name.hasSuffix("ok") ? .linearizable : .notLinearizable))
        #expect(report.keys > 1)
        for offence in report.offences { #expect(!offence.lines.isEmpty) }
    }
}
