import Foundation
import PowerCut

/// Records what a real node does to its disk, makes the states that power cuts could leave, and starts the real recovery on each.
@main
struct PowerCutTool {
    static let usage = """
        usage: power-cut run [--images N] [--seed S] [--workloads A,B] [--guilty KIND] [--directory DIR]
               power-cut check --run DIR --image NAME [--seed S]
               power-cut check --run DIR --images N --share I --shares N [--seed S]
               power-cut record --workload A --run DIR [--seed S] [--guilty KIND]
        """

    static func main() async {
        do {
            let words = Array(CommandLine.arguments.dropFirst())
            let arguments = try Arguments(Array(words.dropFirst()))
            switch words.first {
            case "run": exit(try Campaign(arguments).run() ? 0 : 1)
            case "check": exit(try check(arguments) ? 0 : 1)
            case "record": try await record(arguments)
            default:
                say(usage)
                exit(64)
            }
        } catch {
            say("power-cut: \(error)")
            exit(70)
        }
    }

    private static func record(_ arguments: Arguments) async throws {
        guard let workload = Workload(rawValue: try arguments.text("workload")) else {
            throw Violation("the workloads are \(Workload.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        try await workload.play(
            in: try arguments.text("run"),
            seed: arguments.number("seed", 1),
            isUnsynced: arguments["guilty"] == "nosync"
        )
    }

    private static func check(_ arguments: Arguments) throws -> Bool {
        let run = RecordedRun(directory: try arguments.text("run"))
        var plan = ImageRun.Plan(seed: arguments.number("seed", 1), images: Int(arguments.number("images", 1 << 40)))
        plan.share = Int(arguments.number("share", 0))
        plan.shares = Int(arguments.number("shares", 1))
        plan.only = arguments["image"].flatMap { ImageName($0) }
        let place = run.directory + "/work-\(plan.share)"
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        let checker = try Checker(
            run: run,
            plan: plan,
            workPlace: place,
            status: run.directory + "/status-\(plan.share)",
            wholeNodeEvery: plan.only == nil ? Int(arguments.number("whole-node-every", 500)) : 1
        )
        do {
            let summary = try checker.check { say("progress \($0.checked)") }
            say(
                "summary \(summary.checked) \(summary.distinct) \(summary.wholeNodes) \(summary.acknowledgements)"
            )
            return true
        } catch let failure as Checker.Failure {
            say("failure \(failure.image) \(failure)")
            return false
        }
    }
}

/// `--name value` pairs.
struct Arguments {
    private var values: [String: String] = [:]

    init(_ words: [String]) throws {
        var rest = words[...]
        while let name = rest.popFirst() {
            guard name.hasPrefix("--"), let value = rest.popFirst() else { throw Violation(PowerCutTool.usage) }
            values[String(name.dropFirst(2))] = value
        }
    }

    subscript(name: String) -> String? { values[name] }

    func text(_ name: String) throws -> String {
        guard let value = values[name] else { throw Violation("--\(name) is missing\n\(PowerCutTool.usage)") }
        return value
    }

    func number(_ name: String, _ standard: UInt64) -> UInt64 { values[name].flatMap { UInt64($0) } ?? standard }
}

/// Writes a line at once.
func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }
