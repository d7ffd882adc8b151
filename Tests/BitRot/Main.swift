import Foundation

/// Damages copies of a server's data directory, one place each, and starts a real server on each copy.
///
///     bit-rot [--flips N] [--seed S] [--jobs J] [--without-examination]
///
/// Exit status 0: each damage was harmless, was mended, or was told of; no wrong answer, no crash.
@main
enum Main {
    static func main() async throws {
        let arguments = Array(CommandLine.arguments.dropFirst())
        if arguments.first == "work" { return try await work(arguments) }
        var options = Options()
        var rest = arguments[...]
        while let name = rest.popFirst() {
            switch name {
            case "--flips": options.flips = rest.popFirst().flatMap { Int($0) } ?? options.flips
            case "--seed": options.seed = rest.popFirst().flatMap { UInt64($0) } ?? options.seed
            case "--jobs": options.jobs = rest.popFirst().flatMap { Int($0) } ?? options.jobs
            case "--without-examination": options.isExamined = false
            default:
                print("usage: bit-rot [--flips N] [--seed S] [--jobs J] [--without-examination]")
                exit(64)
            }
        }
        exit(try await Campaign(options: options).run() ? 0 : 1)
    }

    struct Options: Sendable {
        var flips = 2000
        var seed: UInt64 = 1
        var jobs = 2
        var isExamined = true
    }

    /// `work BASE SCRATCH SEED FROM STEP END EXAMINED`: plays the damages FROM, FROM + STEP … below END.
    private static func work(_ arguments: [String]) async throws {
        guard arguments.count == 8, let seed = UInt64(arguments[3]), let from = Int(arguments[4]),
            let step = Int(arguments[5]), let end = Int(arguments[6])
        else { exit(64) }
        let worker = try await Worker(base: arguments[1], scratch: arguments[2], isExamined: arguments[7] == "yes")
        for number in stride(from: from, to: end, by: step) {
            let damage = Damaging(seed: seed, number: number, image: worker.image)
            say("begin \(number) \(damage)")
            setBounds(processorSeconds: 20, seconds: 120)
            let verdict = try await worker.play(damage)
            setBounds(processorSeconds: 0, seconds: 0)
            say("end \(number) \(verdict.line.replacingOccurrences(of: "\n", with: " "))")
        }
        exit(0)
    }

    /// A damaged tree may hold a search for ever, which takes the processor's time. A machine that has little of that to give, or a slow disk,
    /// is no such thing; but nothing waits for ever either. 0 takes a bound away.
    private static func setBounds(processorSeconds: Int, seconds: UInt32) {
        var bound = itimerval()
        bound.it_value.tv_sec = processorSeconds
        setitimer(__itimer_which_t(ITIMER_PROF.rawValue), &bound, nil)
        alarm(seconds)
    }

    /// A line on standard output, at once: the next moment may be the last.
    private static func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }
}
