import ArgumentParser
import Foundation
import KontikiClient
import Linearizability

extension HistoryFormat: ExpressibleByArgument {}

struct VerifyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Check recorded histories for linearizability.",
        discussion: #"""
            A history says which client asked for what, when, and what was answered. It is linearizable if each operation can have taken \#
            effect at one moment between its call and its return. Each key is checked by itself.

              kontiki verify history.ndjson
              kontiki verify --format jepsen-etcd etcd_*.log

            kontiki, the format unless another is named: a JSON object a line, one when
            an operation begins and one when it ends, in the order of happening.
              {"process":0,"type":"invoke","f":"put","key":"a","value":"1"}
              {"process":0,"type":"ok","f":"put","key":"a","revision":12}
              type      invoke; ok; fail: certainly not executed; info: unknown
              f         get, put, delete, cas, incr or append
              value     what is written; with ok of get and incr what was
                        answered. null: no such key
              expected, expected_revision
                        of cas, one of them; null and 0: no such key
              succeeded with ok of cas; false: the condition did not hold
              by        of incr; 1 if missing
              revision  with ok: which the write made, or which wrote what was
                        read; checked where it is there
              time      not looked at: the order of lines counts

            jepsen-etcd: logs of Jepsen against a compare-and-set register.
              INFO  jepsen.util - 3 :invoke :cas [1 4]

            porcupine-kv: EDN maps with put, append and get.
              {:process 0, :type :invoke, :f :append, :key "4", :value "x"}

            One line a file with the verdict. Of a history that is not linearizable a shortest part is shown that is not: no operation of \#
            it can be left out. An operation of unknown outcome may have taken effect at any time after its call, or never.

            Exit codes: 0 all are linearizable; 1 one is not; 2 a file cannot be read, is malformed, or met the bound on steps.
            """#
    )

    @Option(help: "kontiki, jepsen-etcd or porcupine-kv.") var format = HistoryFormat.kontiki
    @Option(help: "The bound on steps of the search for each key; beyond it there is no verdict.")
    var limit = 50_000_000

    @Argument(help: "The files; - is standard input.") var paths: [String]

    func validate() throws {
        guard limit > 0 else { throw ValidationError("--limit must be above 0.") }
    }

    func run() async throws {
        var status: Int32 = 0
        for path in paths {
            switch try verify(path) {
            case .linearizable: break
            case .notLinearizable: status = 1
            case .undecided, nil: status = status == 1 ? 1 : 2
            }
        }
        if status != 0 { throw ExitCode(status) }
    }

    /// Prints the verdict on a file; nil is none.
    private func verify(_ path: String) throws -> HistoryVerdict? {
        let report: HistoryReport
        do {
            report = try format.check(try InputFile.readAll(path), limit: limit)
        } catch let error as MalformedHistory {
            say("kontiki: \(path), \(error)")
            return nil
        } catch let failure as Failure {
            say("kontiki: \(failure.message)")
            return nil
        }
        let size = "\(Self.count(report.operations, "operation")), \(Self.count(report.keys, "key"))"
        switch report.verdict {
        case .linearizable:
            try Output.emit(line: "\(path): linearizable (\(size))")
        case .undecided:
            let keys = report.undecidedKeys.map { "“\(Printable.shown($0))”" }.joined(separator: ", ")
            try Output.emit(
                line:
                    "\(path): undecided after \(limit) steps\(keys == "“”" ? "" : " for \(keys)"); try a higher --limit"
            )
        case .notLinearizable:
            try Output.emit(line: "\(path): NOT linearizable (\(size))" + Self.places(report.offences))
            for offence in report.offences { try Output.emit(line: Self.text(offence)) }
        }
        return report.verdict
    }

    private static func count(_ number: Int, _ what: String) -> String { "\(number) \(what)\(number == 1 ? "" : "s")" }

    private static func places(_ offences: [HistoryReport.Offence]) -> String {
        let keys = offences.compactMap { $0.key.map { "“\(Printable.shown($0))”" } }
        return keys.isEmpty ? "" : ": \(keys.count == 1 ? "key" : "keys") \(keys.joined(separator: ", "))"
    }

    private static func text(_ offence: HistoryReport.Offence) -> String {
        let head =
            offence.key.map { "    key “\(Printable.shown($0))”, of \(count(offence.operations, "operation")):\n" }
            ?? ""
        return head + offence.lines.map { "    \($0)" }.joined(separator: "\n")
    }
}
