import Foundation
import Testing

extension EndToEndTests {
    @Suite("kontiki verify") struct Verify {
        private static let good = """
            {"process":0,"type":"invoke","f":"put","key":"a","value":"1"}
            {"process":0,"type":"ok","f":"put","key":"a","revision":12}
            {"process":1,"type":"invoke","f":"get","key":"a"}
            {"process":1,"type":"ok","f":"get","key":"a","value":"1","revision":12}

            """
        private static let stale = """
            {"process":0,"type":"invoke","f":"put","key":"a","value":"2"}
            {"process":0,"type":"ok","f":"put","key":"a"}
            {"process":1,"type":"invoke","f":"get","key":"a"}
            {"process":1,"type":"ok","f":"get","key":"a","value":"1"}
            """
        private static let bad = good + stale
        private static let malformed = good + "{}\n"
        private static let jepsen = "INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:ok\t:read\t7\n"

        private func run(
            _ arguments: [String],
            _ files: [String: String],
            input: String? = nil
        ) async throws -> (ending: Ending, output: String) {
            try await withTemporaryDirectory { directory in
                for (name, text) in files {
                    try Data(text.utf8).write(to: URL(fileURLWithPath: directory + "/" + name))
                }
                let arguments = arguments.map { files[$0] == nil ? $0 : directory + "/" + $0 }
                return try await ChildProcess.run(
                    Binary.path(),
                    ["verify"] + arguments,
                    input: input.map { directory + "/" + $0 }
                )
            }
        }

        @Test("0 if all histories are linearizable, one line each") func good() async throws {
            let files = ["a.ndjson": Self.good, "b.ndjson": ""]
            let (ending, output) = try await run(["a.ndjson", "b.ndjson"], files)
            #expect(ending == .exited(0))
            let lines = output.split(separator: "\n")
            #expect(lines.count == 2, "\(output)")
            #expect(lines.first?.hasSuffix("a.ndjson: linearizable (2 operations, 1 key)") ?? false, "\(output)")
            let fromInput = try await run(["-"], files, input: "a.ndjson")
            #expect(fromInput.ending == .exited(0))
            #expect(fromInput.output == "-: linearizable (2 operations, 1 key)\n")
        }

        @Test("1 if one is not, and it shows what does not fit") func bad() async throws {
            let (ending, output) = try await run(
                ["missing", "bad", "good"],
                ["bad": Self.bad, "good": Self.good]
            )
            #expect(ending == .exited(1))
            #expect(output.contains("NOT linearizable (4 operations, 1 key): key “a”"), "\(output)")
            #expect(output.contains("process 1  lines 7 to 8  get -> 1"), "\(output)")
            #expect(output.contains("good: linearizable"), "\(output)")
            let jepsen = try await run(["--format", "jepsen-etcd", "log"], ["log": Self.jepsen])
            #expect(jepsen.ending == .exited(1))
        }

        @Test("2 if a file is malformed, missing or undecided: that is never a pass") func noVerdict() async throws {
            let malformed = try await run(["malformed", "good"], ["malformed": Self.malformed, "good": Self.good])
            #expect(malformed.ending == .exited(2))
            #expect(malformed.output.contains("malformed, line 5: “process” is missing"), "\(malformed.output)")
            #expect(malformed.output.contains("good: linearizable"))
            #expect(try await run(["/nowhere"], [:]).ending == .exited(2))
            let long = String(repeating: Self.good, count: 10)
            let undecided = try await run(["--limit", "1", "long"], ["long": long])
            #expect(undecided.ending == .exited(2))
            #expect(undecided.output.contains("undecided after 1 steps for “a”"), "\(undecided.output)")
            #expect(try await run(["--format", "tsv", "good"], ["good": Self.good]).ending == .exited(64))
        }
    }
}
