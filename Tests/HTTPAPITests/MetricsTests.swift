import NIOCore
import Testing

@testable import HTTPAPI

@Suite struct MetricsTests {
    @Test("/metrics is sound text; answers of both lanes are counted by their code")
    func text() async throws {
        try await withServer { _, port in
            let connection = try await RawConnection(port: port)
            func get(_ target: String) async throws -> RawResponse {
                try await connection.request("GET \(target) HTTP/1.1\r\nHost: a\r\n\r\n")
            }
            for target in ["/kv/absent", "/kv/absent", "/status", "/nowhere"] { _ = try await get(target) }
            let answer = try await get("/metrics")
            #expect(answer.status == 200)
            #expect(answer.fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8")
            let families = try PrometheusText.parse(answer.body)
            func value(_ name: String, _ labels: [String: String] = [:]) -> Double? {
                families.flatMap(\.samples).first { $0.name == name && $0.labels == labels }?.value
            }
            #expect(value("kontiki_http_answers_total", ["code": "404"]) == 3)
            #expect(value("kontiki_http_answers_total", ["code": "200"]) == 1)
            #expect(value("kontiki_raft_role", ["role": "leader"]) == 1)
            #expect(value("kontiki_quarantine") == 0)
            #expect(value("kontiki_raft_commit_index") ?? 0 > 0)
            #expect(value("kontiki_storage_free_bytes") ?? 0 > 0)
            #expect(families.count > 30)
        }
    }
}
