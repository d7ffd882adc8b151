import Checksum
import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("Exports") struct Exports {
        @Test("An export under a load of writes, with next to no past kept, is whole", .timeLimit(.minutes(3)))
        func underLoad() async throws {
            try await Cluster.run(nodes: 1, options: ["--history-events", "10"]) { cluster in
                let node = cluster.nodes[0]
                let count = 4_000
                for first in stride(from: 0, to: count, by: 100) {
                    let puts = (first..<first + 100).map { #"{"put":{"key":"k/\#($0)","value":"\#($0)"}}"# }
                    let body = #"{"success":[\#(puts.joined(separator: ","))]}"#
                    _ = try await cluster.client.transaction(Array(body.utf8))
                }
                let load = WriteLoad(prefix: "load")
                let writing = Task { await load.run(writer: 1, clients: [node.client], seed: 1) }
                defer { load.stop() }
                for name in ["all.ndjson", "all.tsv"] {
                    let acknowledged = load.acknowledgements
                    try await eventually("writes go on") { load.acknowledgements > acknowledged + 20 }
                    let path = cluster.directory + "/" + name
                    let run = try await ChildProcess.run(
                        Binary.path(),
                        ["export", "--prefix", "k/", path, "--endpoint", node.endpoint]
                    )
                    #expect(run.ending == .exited(0), "\(run.output)")
                    let text = try String(contentsOfFile: path, encoding: .utf8)
                    let lines = text.split(separator: "\n")
                    #expect(lines.count == count && Set(lines).count == count)
                    #expect(name == "all.tsv" ? lines.allSatisfy { $0.hasPrefix("k/") && $0.contains("\t") } : true)
                    #expect(try mode(path) == 0o600)
                }
                load.stop()
                await writing.value
                #expect(try mode(node.directory) == 0o700)
            }
        }

        private func mode(_ path: String) throws -> Int {
            try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int ?? -1
        }

        private static let lines = #"{"key":"a","value":"1"}"# + "\n" + #"{"key":"b","value_base64":"/w=="}"# + "\n"

        private func end(_ lines: String, records: Int) -> String {
            let sum = String(CRC32C.checksum(Array(lines.utf8)), radix: 16)
            let padded = String(repeating: "0", count: 8 - sum.count) + sum
            return #"{"end":true,"revision":7,"records":\#(records),"crc32c":"\#(padded)"}"# + "\n"
        }

        @Test("What breaks off, or is not what was sent, leaves no file behind, and what is whole has its name")
        func broken() async throws {
            let whole = Self.lines + end(Self.lines, records: 2)
            let bodies: [(text: String, isWhole: Bool)] = [
                (whole, true), (Self.lines, false), ("", false), (String(whole.dropLast(9)), false),
                (Self.lines + end(Self.lines, records: 3), false), (Self.lines + end("other", records: 2), false),
                (whole + Self.lines, false), (String(Self.lines.dropLast()) + end(Self.lines, records: 2), false),
            ]
            for (text, isWhole) in bodies {
                try await withTemporaryDirectory { directory in
                    let node = try await StandInNode { _, _ in .answer(200, text) }
                    let run = try await ChildProcess.run(
                        Binary.path(),
                        ["export", directory + "/out.ndjson", "--timeout", "2s", "--endpoint", node.endpoint]
                    )
                    #expect((run.ending == .exited(0)) == isWhole, "\(text): \(run.output)")
                    let names = try FileManager.default.contentsOfDirectory(atPath: directory)
                    #expect(names == (isWhole ? ["out.ndjson"] : []), "\(text)")
                    if isWhole {
                        #expect(try String(contentsOfFile: directory + "/out.ndjson", encoding: .utf8) == Self.lines)
                    }
                    await node.stop()
                }
            }
        }

        @Test("A pipe or a device that is exported to is written to, and not replaced by a file")
        func files() async throws {
            try await withTemporaryDirectory { directory in
                let node = try await StandInNode { _, _ in .answer(200, Self.lines + end(Self.lines, records: 2)) }
                let pipe = directory + "/pipe"
                #expect(mkfifo(pipe, 0o600) == 0)
                // Somebody who reads is there, and what is written stays in the pipe until it is read.
                let reader = open(pipe, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
                defer { close(reader) }
                let run = try await ChildProcess.run(Binary.path(), ["export", pipe, "--endpoint", node.endpoint])
                #expect(run.ending == .exited(0), "\(run.output)")
                var bytes = [UInt8](repeating: 0, count: 100)
                let count = read(reader, &bytes, bytes.count)
                #expect(Array(bytes.prefix(max(0, count))) == Array("a\t1\nb\t".utf8) + [0xFF, 0x0A])
                var status = stat()
                #expect(stat(pipe, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO)
                await node.stop()
            }
        }

        @Test("An import takes the answer of GET /snapshot, and sees when something of it is missing")
        func imports() async throws {
            try await withTemporaryDirectory { directory in
                let node = try await StandInNode { _, _ in .answer(200, #"{"revision":1,"version":1,"created":true}"#) }
                let cases: [(text: String, status: Int32, puts: Int)] = [
                    (Self.lines + end(Self.lines, records: 2), 0, 2), (Self.lines, 0, 2),
                    (Self.lines + end(Self.lines, records: 3), 65, 2),
                    (Self.lines + end(Self.lines, records: 2) + Self.lines, 65, 4),
                    (
                        #" { "value" : "\ud83d\ude00\n\u0041" , "key" : "\u00fc" , "version" : 3, "lease": null } "#, 0,
                        1
                    ),
                    (#"{"key":"a","value":1}"#, 65, 0), (#"{"key":"a","key":"b","value":""}"#, 65, 0),
                    (#"{"key":"a","value":"\ud83d"}"#, 65, 0), (#"{"key":"a","value":""} x"#, 65, 0),
                    (#"{"key":"a","value":{"b":1}}"#, 65, 0), (#"["key"]"#, 65, 0), (#"{"key":"a"}"#, 65, 0),
                ]
                for (index, one) in cases.enumerated() {
                    let file = directory + "/\(index).ndjson"
                    try Data(one.text.utf8).write(to: URL(fileURLWithPath: file))
                    let before = node.requests.count
                    let run = try await ChildProcess.run(
                        Binary.path(),
                        ["import", "--quiet", file, "--endpoint", node.endpoint]
                    )
                    #expect(run.ending == .exited(one.status), "\(one.text): \(run.output)")
                    #expect(node.requests.count - before == one.puts, "\(one.text): \(run.output)")
                }
                await node.stop()
            }
        }
    }
}
