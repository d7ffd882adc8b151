import Foundation
import Synchronization

/// Plays many damages in some processes, and counts.
struct Campaign: Sendable {
    let options: Main.Options

    private struct Counts {
        var harmless = 0
        var mended = 0
        var refused = 0
        var stopped = 0
        var failures: [String] = []
        /// What sorts of records were told of.
        var reasons: [String: Int] = [:]

        /// Takes note of what a damage was told by.
        mutating func note(_ told: String) {
            let sorts = [
                "the history of": "history", "the deletion of": "deletions", "lease": "leases", "lock “": "locks",
                "idempotency": "idempotency keys",
            ]
            for (words, sort) in sorts where told.contains(words) { reasons[sort, default: 0] += 1 }
        }

        mutating func add(_ other: Counts) {
            harmless += other.harmless
            mended += other.mended
            refused += other.refused
            stopped += other.stopped
            failures += other.failures
            reasons.merge(other.reasons, uniquingKeysWith: +)
        }
    }

    /// Whether no damage led to a wrong answer or a crash.
    func run() async throws -> Bool {
        let start = ContinuousClock.now
        let memory = FileManager.default.fileExists(atPath: "/dev/shm") ? "/dev/shm" : NSTemporaryDirectory()
        let directory = "\(memory)/kontiki-bit-rot-\(getpid())"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let base = directory + "/base"
        try await Worker.makeBase(base)
        let counts = try await withThrowingTaskGroup { group in
            for job in 0..<options.jobs {
                group.addTask { try await self.job(job, base, "\(directory)/job\(job)") }
            }
            var all = Counts()
            for try await counts in group { all.add(counts) }
            return all
        }
        for failure in counts.failures.prefix(20) { print("FAILED \(failure)") }
        let detected = counts.mended + counts.refused + counts.stopped
        let mattering = detected + counts.failures.count
        let share = mattering == 0 ? 100 : Double(detected) * 100 / Double(mattering)
        let wrong = counts.failures.count { $0.contains("WRONG") }
        let reasons = counts.reasons.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
        print("bit rot: records of the state that were told of, by sort: \(reasons.joined(separator: ", "))")
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        print(
            """
            bit rot: seed \(options.seed), \(options.flips) damages in \(Int(seconds)) s: \(counts.harmless) harmless, \(mattering) that \
            mattered, of them detected \(detected) (\(share == 100 ? "100" : String(format: "%.2f", share)) %): \(counts.mended) mended or \
            not needed, \(counts.refused) refused at start, \(counts.stopped) stopped with a message; wrong answers or lost writes: \(wrong), crashes: \(counts.failures.count - wrong)
            """
        )
        return counts.failures.isEmpty
    }

    /// Plays every `jobs`-th damage; a process that crashes is replaced by another.
    private func job(_ job: Int, _ base: String, _ scratch: String) async throws -> Counts {
        var counts = Counts()
        var next = job
        while next < options.flips {
            let (lines, status) = try await work(base, scratch, from: next)
            var begun: (number: Int, text: String)?
            for line in lines {
                let words = line.split(separator: " ", maxSplits: 3).map(String.init)
                guard words.count >= 3, let number = Int(words[1]) else { continue }
                if words[0] == "begin" {
                    begun = (number, words[2...].joined(separator: " "))
                    continue
                }
                let told = words.count > 3 ? words[3] : ""
                switch words[2] {
                case "harmless": counts.harmless += 1
                case "mended" where !told.isEmpty: counts.mended += 1
                case "refused" where !told.isEmpty: counts.refused += 1
                case "stopped" where !told.isEmpty: counts.stopped += 1
                default:
                    counts.failures.append("\(begun.map { "\($0)" } ?? line): \(words[2...].joined(separator: " "))")
                }
                begun = nil
                counts.note(told)
                next = number + options.jobs
            }
            if let begun {
                let isEndless = status == SIGPROF || status == SIGALRM
                counts.failures.append(
                    "\(begun): \(isEndless ? "no end" : "the process ended with signal or status \(status)")"
                )
                next = begun.number + options.jobs
            } else if status != 0 {
                throw Node.Stopped("a process did not begin (status \(status)): \(lines.last ?? "")")
            }
        }
        return counts
    }

    private func work(_ base: String, _ scratch: String, from: Int) async throws -> ([String], Int32) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = [
            "work", base, scratch, "\(options.seed)", "\(from)", "\(options.jobs)", "\(options.flips)",
            options.isExamined ? "yes" : "no",
        ]
        let output = Pipe()
        process.standardOutput = output
        if !options.isExamined { process.standardError = FileHandle.nullDevice }
        let text = Mutex(Data())
        let handle = output.fileHandleForReading
        let status: Int32 = try await withCheckedThrowingContinuation { continuation in
            process.terminationHandler = { continuation.resume(returning: $0.terminationStatus) }
            Thread.detachNewThread {
                while let piece = try? handle.read(upToCount: 1 << 16), !piece.isEmpty { text.withLock { $0 += piece } }
                text.withLock { $0 += Data([0xff]) }
            }
            do { try process.runAlone() } catch { continuation.resume(throwing: error) }
        }
        // The pipe's end comes with the process's, or a moment later.
        while text.withLock({ $0.last }) != 0xff { try await Task.sleep(for: .milliseconds(1)) }
        let bytes = text.withLock { $0.dropLast() }
        return (String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init), status)
    }
}
