import Foundation
import PowerCut
import Testing

/// The library under ordinary programs of the system.
@Suite("The disk recorder")
struct DiskRecorderTests {
    @Test("Writes, syncs and names are noted in their order, with their content")
    func records() throws {
        try withDirectory { directory in
            let trace = directory + "/trace"
            let status = try Self.run(
                "cd d && mkdir a && printf hello > a/one && mv a/one two && dd if=two of=three conv=fsync && rm two",
                in: directory,
                ["KONTIKI_DISK_RECORD": trace, "KONTIKI_DISK_SEQUENCE": directory + "/sequence"]
            )
            #expect(status == 0)
            let records = try Trace(contentsOf: trace).records
            #expect(records.map(\.sequence) == Array(1...UInt64(records.count)))
            let events = records.map(\.event)
            let expected: [(String, (TraceEvent) -> Bool)] = [
                ("mkdir", { $0 == .madeDirectory(path: "a") }),
                ("create", { if case .created(_, "a/one") = $0 { true } else { false } }),
                ("write", { if case .write(_, 0, Array("hello".utf8), false) = $0 { true } else { false } }),
                ("rename", { $0 == .renamed(from: "a/one", to: "two") }),
                ("create", { if case .created(_, "three") = $0 { true } else { false } }),
                ("write", { if case .write(_, 0, Array("hello".utf8), false) = $0 { true } else { false } }),
                ("sync", { if case .syncBegan(_, "three", false) = $0 { true } else { false } }),
                ("end", { if case .syncEnded(_, 0) = $0 { true } else { false } }),
                ("unlink", { $0 == .unlinked(path: "two") }),
            ]
            var rest = events[...]
            for (name, matches) in expected {
                let found = try #require(rest.firstIndex(where: matches), "no \(name) in \(rest)")
                rest = rest[(found + 1)...]
            }
        }
    }

    @Test("The call that is named fails, all are counted")
    func faults() throws {
        try withDirectory { directory in
            let copy = "head -c 9000 /dev/zero | dd of=d/file bs=1000 iflag=fullblock conv=fsync"
            let count = directory + "/count"
            func run(_ fault: String) throws -> Int32 {
                try Self.run(copy, in: directory, ["KONTIKI_DISK_FAULT": fault, "KONTIKI_DISK_COUNT": count])
            }
            func lines() throws -> [String] {
                let text = try String(contentsOfFile: count, encoding: .utf8)
                try FileManager.default.removeItem(atPath: count)
                return text.split(separator: "\n").map(String.init)
            }
            try #expect(run("calls=write nth=0") == 0)
            try #expect(lines() == (1...9).map { "\($0) write /file" })
            try #expect(run("calls=write nth=4 errno=ENOSPC") != 0)
            try #expect(lines().last == "4 write /file failed: ENOSPC")
            try #expect(run("calls=sync nth=1 errno=EIO") != 0)
            try #expect(lines() == ["1 sync /file failed: EIO"])
            try #expect(run("calls=write,open nth=12") == 0)
        }
    }

    @Test("A switch thrown at run time fills the disk and delays syncs")
    func control() throws {
        try withDirectory { directory in
            let control = directory + "/control"
            func run(_ command: String, _ switches: [UInt8]) throws -> Int32 {
                try Data(switches + [UInt8](repeating: 0, count: 4096 - switches.count))
                    .write(to: URL(fileURLWithPath: control))
                return try Self.run(command, in: directory, ["KONTIKI_DISK_CONTROL": control])
            }
            try #expect(run("printf 12345 > d/file", []) == 0)
            try #expect(run("printf 1 >> d/file", [1]) != 0)
            try #expect(run("printf 54321 | dd of=d/file conv=notrunc", [1]) == 0)
            try #expect(run("printf 54321 | dd of=d/file conv=notrunc", [2]) != 0)
            let start = ContinuousClock.now
            try #expect(run("printf 1 | dd of=d/file conv=fsync,notrunc", [0, 0, 20]) == 0)
            #expect(ContinuousClock.now - start >= .milliseconds(200))
            try #expect(run("printf 1 | dd of=d/file conv=fsync,notrunc", [0, 0, 0, 1]) != 0)
        }
    }

    /// Runs a shell command with the library preloaded for everything below `directory`/d.
    private static func run(_ command: String, in directory: String, _ environment: [String: String]) throws -> Int32 {
        let library = RecorderLibrary.path
        try #require(
            FileManager.default.fileExists(atPath: library),
            "\(library) is not there: swift build --build-tests"
        )
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", command]
        process.currentDirectoryURL = URL(fileURLWithPath: directory)
        process.environment = ["PATH": "/usr/bin:/bin", "KONTIKI_DISK_DIR": directory + "/d", "LD_PRELOAD": library]
            .merging(environment) { $1 }
        process.standardError = FileHandle.nullDevice
        let ended = DispatchSemaphore(value: 0)
        process.terminationHandler = { _ in ended.signal() }
        try process.run()
        ended.wait()
        return process.terminationStatus
    }

    private func withDirectory(_ body: (String) throws -> Void) throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("recorder-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path + "/d", withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }
}
