import Linearizability
import Testing

@Suite struct FormatTests {
    private func check(_ format: HistoryFormat, _ lines: String) throws -> HistoryReport {
        try format.check(Array(lines.utf8))
    }

    @Test("Jepsen's log: a failed cas saw another value, a failed write was not executed, :info is unknown")
    func jepsen() throws {
        let lines = """
            INFO  jepsen.util - 0\t:invoke\t:write\t1
            INFO  jepsen.util - 1\t:invoke\t:cas\t[1 2]
            INFO  jepsen.util - 0\t:ok\t:write\t1
            INFO  jepsen.util - 1\t:info\t:cas\t:timed-out
            INFO  jepsen.util - 2\t:invoke\t:write\t7
            INFO  jepsen.util - 2\t:fail\t:write\t7
            INFO  jepsen.util - 2\t:invoke\t:read\tnil
            INFO  jepsen.util - 2\t:ok\t:read\t%
            INFO  jepsen.util - 2\t:invoke\t:cas\t[2 3]
            INFO  jepsen.util - 2\t:fail\t:cas\t[2 3]
            """
        func verdict(_ value: String) throws -> HistoryVerdict {
            try check(.jepsenEtcd, lines.split(separator: "%").joined(separator: value)).verdict
        }
        #expect(try verdict("1") == .linearizable)
        #expect(try verdict("2") == .notLinearizable)
        #expect(try verdict("7") == .notLinearizable)
        #expect(try verdict("nil") == .notLinearizable)
    }

    @Test("Kontiki's format: values, revisions, conditions, counters and appends")
    func kontiki() throws {
        let report = try check(
            .kontiki,
            #"""
            {"process":0,"type":"invoke","f":"put","key":"a","value":"x\u00e4","time":1}
            {"process":1,"type":"invoke","f":"get","key":"a"}
            {"process":0,"type":"ok","f":"put","key":"a","revision":12}
            {"process":1,"type":"ok","f":"get","key":"a","value":"xä","revision":12}
            {"process":1,"type":"invoke","f":"cas","key":"a","expected_revision":12,"value":null}
            {"process":1,"type":"ok","f":"cas","key":"a"}
            {"process":2,"type":"invoke","f":"incr","key":"a"}
            {"process":3,"type":"invoke","f":"cas","key":"a","expected":1,"value":5}
            {"process":2,"type":"ok","f":"incr","key":"a","value":1,"revision":15}
            {"process":3,"type":"info","f":"cas","key":"a"}
            {"process":4,"type":"invoke","f":"get","key":"a"}
            {"process":4,"type":"ok","f":"get","key":"a","value":"5"}
            {"process":4,"type":"invoke","f":"cas","key":"a","expected":null,"value":"6"}
            {"process":4,"type":"ok","f":"cas","key":"a","succeeded":false}
            {"process":4,"type":"invoke","f":"delete","key":"a"}
            {"process":4,"type":"ok","f":"delete","key":"a"}
            {"process":5,"type":"invoke","f":"append","key":"b","value":"1"}
            {"process":5,"type":"fail","f":"append","key":"b"}
            {"process":5,"type":"invoke","f":"append","key":"b","value":"2"}
            {"process":5,"type":"ok","f":"append","key":"b"}
            {"process":5,"type":"invoke","f":"get","key":"b"}
            {"process":5,"type":"ok","f":"get","key":"b","value":"2"}
            {"process":5,"type":"invoke","f":"get","key":"b"}
            """#
        )
        #expect(report.verdict == .linearizable, "\(report)")
        #expect(report.keys == 2)
        #expect(report.operations == 11)
    }

    @Test("Revisions count: an older one behind a newer one is refused, even with the same value") func revisions()
        throws
    {
        let report = try check(
            .kontiki,
            #"""
            {"process":0,"type":"invoke","f":"put","key":"a","value":"x"}
            {"process":0,"type":"ok","f":"put","key":"a","revision":12}
            {"process":0,"type":"invoke","f":"put","key":"a","value":"x"}
            {"process":0,"type":"ok","f":"put","key":"a","revision":13}
            {"process":0,"type":"invoke","f":"get","key":"a"}
            {"process":0,"type":"ok","f":"get","key":"a","value":"x","revision":12}
            """#
        )
        #expect(report.verdict == .notLinearizable)
        let offence = try #require(report.offences.first)
        #expect(offence.key == "a")
        #expect(offence.lines.contains { $0.contains("get -> “x” (revision 12)") }, "\(offence.lines)")
    }

    @Test(
        "A malformed line is told by its number",
        arguments: [
            (HistoryFormat.jepsenEtcd, "INFO  jepsen.util - 0\t:invoke\t:write\t99999999999999999999", "64 bits"),
            (.jepsenEtcd, "INFO  jepsen.util - 0\t:invoke\t:push\t1", ":push"),
            (.jepsenEtcd, "INFO  jepsen.util - 1\t:ok\t:read\tnil", "no operation under way"),
            (.jepsenEtcd, "WARN  jepsen.util - 1\t:ok\t:read\tnil", "“INFO” is expected"),
            (.jepsenEtcd, "INFO  jepsen.util - 1\t:invoke\t:cas\t[1 2", "is expected"),
            (.jepsenEtcd, "INFO  jepsen.util - -1\t:invoke\t:read\tnil", "negative"),
            (.porcupineKeyValue, "{:process 0, :type :invoke, :f :put, :key \"4\"}", "no :value"),
            (.porcupineKeyValue, "{:process 0, :type :invoke, :f :put, :key \"4", "is missing"),
            (.porcupineKeyValue, "{:process 0, :type :begin, :f :put, :key \"4\"}", ":begin"),
            (.porcupineKeyValue, "{:process 0, :type :invoke, :f :put, :key \"4\", :value \"1\"} x", "left over"),
            (.kontiki, #"{"process":0,"type":"invoke","f":"get"}"#, "“key” is missing"),
            (.kontiki, #"{"process":0,"type":"invoke","f":"get","key":"a","kex":1}"#, "“kex” is not known"),
            (.kontiki, #"{"process":0.5,"type":"invoke","f":"get","key":"a"}"#, "whole number"),
            (.kontiki, #"{"process":0,"process":1,"type":"invoke","f":"get","key":"a"}"#, "twice"),
            (.kontiki, #"{"process":0,"type":"invoke","f":"cas","key":"a","value":"1"}"#, "either “expected”"),
            (.kontiki, #"{"process":0,"type":"invoke","f":"put","key":"\ud800","value":"1"}"#, "surrogate"),
            (.kontiki, #"{"process":0,"type":"invoke","f":"put","key":["a"],"value":"1"}"#, "arrays"),
            (.kontiki, "[]", "is expected"),
            (.kontiki, "{\"process\":0,\"type\":\"invoke\",\"f\":\"get\",\"key\":\"\u{1}\"}", "control character"),
        ]
    )
    func malformed(format: HistoryFormat, line: String, reason: String) throws {
        let error = try #require(throws: MalformedHistory.self) { try check(format, "\n" + line + "\n") }
        #expect(error.line == 2)
        #expect(error.reason.contains(reason), "\(error)")
    }

    @Test("Two operations of one process at a time, and an end of another operation, are malformed") func pairing()
        throws
    {
        let get = #"{"process":0,"type":"invoke","f":"get","key":"a"}"# + "\n"
        let twice = try #require(throws: MalformedHistory.self) { try check(.kontiki, get + get) }
        #expect(twice.line == 2 && twice.reason.contains("line 1"))
        let other = try #require(throws: MalformedHistory.self) {
            try check(.kontiki, get + #"{"process":0,"type":"ok","f":"get","key":"b","value":null}"#)
        }
        #expect(other.line == 2)
        #expect(throws: MalformedHistory(line: 1, "there is text that is not UTF-8")) {
            try HistoryFormat.kontiki.check(Array(#"{"process":0,"f":""#.utf8) + [0xFF] + Array(#""}"#.utf8))
        }
    }

    @Test("An empty file is a history without operations", arguments: HistoryFormat.allCases)
    func empty(format: HistoryFormat) throws {
        #expect(try check(format, "").verdict == .linearizable)
        #expect(try check(format, "\n\n").operations == 0)
    }

    @Test("Random damage to a file is an error or a verdict, never a trap", arguments: HistoryFormat.allCases)
    func damage(format: HistoryFormat) {
        let lines =
            switch format {
            case .jepsenEtcd: "INFO  jepsen.util - 0\t:invoke\t:cas\t[1 2]\nINFO  jepsen.util - 0\t:ok\t:cas\t[1 2]\n"
            case .porcupineKeyValue:
                #"{:process 0, :type :invoke, :f :get, :key "4", :value nil}"# + "\n"
                    + #"{:process 0, :type :ok, :f :get, :key "4", :value "\u00e4\n"}"#
            case .kontiki:
                #"{"process":0,"type":"invoke","f":"incr","key":"a","by":-9223372036854775808}"# + "\n"
                    + #"{"process":0,"type":"ok","f":"incr","key":"a","value":-9223372036854775808,"revision":3}"#
            }
        var random = SeededGenerator(seed: 31)
        let interesting = Array(#"{}[]":,\-0987 utfnil"#.utf8)
        for _ in 0..<3000 {
            var bytes = Array(lines.utf8)
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let place = Int.random(in: bytes.indices, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.insert(interesting[Int.random(in: interesting.indices, using: &random)], at: place)
                case 2: bytes.remove(at: place)
                default: bytes.removeSubrange(place...)
                }
                if bytes.isEmpty { bytes = Array(lines.utf8) }
            }
            _ = try? format.check(bytes)
        }
    }
}
