import Glibc
import Raft
import Simulation

/// `mutation-gate list` names every planted bug. `mutation-gate BUG FIRST COUNT` switches one on and plays seeds from FIRST on until one
/// run breaks a rule: the last line is then `caught N: what broke`, where N counts the seeds that it took, else `missed COUNT`.
///
/// A line `seed N` comes before each run, so that also a run that traps or hangs says which one it is. `Deploy/mutations.sh` is the caller.
@main
enum MutationGate {
    static func main() {
        let arguments = CommandLine.arguments.dropFirst()
        if arguments.count == 1, arguments.first == "list" {
            for bug in PlantedBug.allCases { say(bug.rawValue) }
        } else if arguments.count == 3, let first = UInt64(arguments[2]), let count = UInt64(arguments[3]) {
            let bug = PlantedBug(rawValue: arguments[1])
            guard bug != nil || arguments[1] == "none" else { usage("there is no bug named \(arguments[1])") }
            // Nothing has run yet: the process is young and has one thread.
            plantedBug = bug
            hunt(first: first, count: count)
        } else {
            usage("usage: mutation-gate list | mutation-gate BUG FIRST COUNT")
        }
    }

    private static func hunt(first: UInt64, count: UInt64) {
        for number in 0..<count {
            say("seed \(first &+ number)")
            if let failure = simulate(SimulationOptions(seed: first &+ number)).failure {
                let what = failure.description.split(separator: "\n").first ?? ""
                say(failure.description)
                say("caught \(number + 1): \(what)")
                return
            }
        }
        say("missed \(count)")
    }

    /// At once, for a trap would lose what is buffered.
    private static func say(_ line: String) {
        print(line)
        fflush(nil)
    }

    private static func usage(_ text: String) -> Never {
        print(text)
        exit(64)
    }
}
