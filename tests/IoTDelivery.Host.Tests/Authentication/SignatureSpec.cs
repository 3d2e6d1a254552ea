using System.Text;
using IoTDelivery.EndToEnd.Harness;
using IoTDelivery.Host.Api.Authentication;
using Microsoft.AspNetCore.Http;

namespace IoTDelivery.Host.Tests.Authentication;

/// <summary>Signed requests (contract, "AK/SK" and "Derived signing"), on the vectors of the vendor's SDK: what verifies, and what a change of anything breaks.</summary>
public sealed class SignatureSpec
{
    private const string Secret = "SecretKey", PostBody = """{"name":"test","id":1}""", Scope = "20200608/test-region-1/demo";
    private const string PlainGet = "cfb4171acec81de07d50e53d57eb77edd537414d66ddb1d7d780f128e12cd842", PlainPost = "436b1ac0a1ae03705934bb70ef2f2e09f7bfed2117d731a38235053199323a1f";
    private const string DerivedGet = "f7dfee056692e58dede80fc80cb89bbfabf45552dd7cd8d18a0a13484455b98e", DerivedPost = "8e2d91eaf9656ec5d6fab27812e2d898a35aaaa5e16ee0a0365c38527ccfb3cf";

    private static readonly DateTimeOffset SignedAt = new(2020, 6, 8, 2, 39, 0, TimeSpan.Zero);
    private static readonly TimeSpan Skew = TimeSpan.FromMinutes(15);

    public static TheoryData<string, string, string> Vectors => new()
    {
        { "GET", "", Plain(PlainGet) },
        { "POST", PostBody, Plain(PlainPost) },
        { "GET", "", Derived(DerivedGet) },
        { "POST", PostBody, Derived(DerivedPost) },
    };

    [Theory]
    [MemberData(nameof(Vectors))]
    public void The_vectors_of_the_SDK_verify(string method, string body, string authorization) =>
        Assert.True(Verifies(authorization, Request(method, body)));

    [Theory]
    [MemberData(nameof(Vectors))]
    public void One_flipped_bit_anywhere_in_Authorization_is_refused(string method, string body, string authorization)
    {
        for (var at = 0; at < authorization.Length; at++)
        {
            for (var bit = 1; bit <= 64; bit <<= 1)
            {
                var flipped = authorization[..at] + (char)(authorization[at] ^ bit) + authorization[(at + 1)..];

                Assert.False(Verifies(flipped, Request(method, body)), $"Bit {bit} of character {at}: {flipped}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Vectors))]
    public void One_flipped_bit_anywhere_in_the_date_is_refused(string method, string body, string authorization)
    {
        for (var at = 0; at < "20200608T023900Z".Length; at++)
        {
            for (var bit = 1; bit <= 64; bit <<= 1)
            {
                var date = "20200608T023900Z".ToCharArray();
                date[at] = (char)(date[at] ^ bit);
                var request = Request(method, body);
                request.Headers["X-Sdk-Date"] = new string(date);

                Assert.False(Verifies(authorization, request, now: SignedAt), new string(date));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Vectors))]
    public void One_flipped_bit_anywhere_in_the_host_the_path_the_query_or_the_body_is_refused(string method, string body, string authorization)
    {
        var request = Request(method, body);
        for (var bit = 1; bit <= 64; bit <<= 1)
        {
            AllFlips("service.endpoint.myhuaweicloud.com", bit, host =>
            {
                var other = Request(method, body);
                other.Headers.Host = host;
                return other;
            });
            AllFlips("/resources?size=1", bit, target => request with { Target = target });
            if (body.Length > 0) AllFlips(body, bit, text => request with { Body = Encoding.UTF8.GetBytes(text) });
        }

        void AllFlips(string original, int bit, Func<string, SignedRequest> changed)
        {
            for (var at = 0; at < original.Length; at++)
            {
                var text = original[..at] + (char)(original[at] ^ bit) + original[(at + 1)..];
                Assert.False(Verifies(authorization, changed(text)), text);
            }
        }
    }

    [Theory]
    [InlineData("POST", "/resources?size=1", "")] // another method
    [InlineData("GET", "/resource?size=1", "")]
    [InlineData("GET", "/Resources?size=1", "")]
    [InlineData("GET", "/resources/x?size=1", "")]
    [InlineData("GET", "//resources?size=1", "")]
    [InlineData("GET", "/resources%2F?size=1", "")]
    [InlineData("GET", "/resources?size=2", "")]
    [InlineData("GET", "/resources?Size=1", "")]
    [InlineData("GET", "/resources?size=1&size=1", "")]
    [InlineData("GET", "/resources?size=1&a", "")]
    [InlineData("GET", "/resources?size=", "")]
    [InlineData("GET", "/resources", "")]
    [InlineData("GET", "/resources?size=1", "{}")] // a body where none was signed
    public void Another_method_path_query_or_body_is_refused(string method, string target, string body)
    {
        Assert.False(Verifies(Plain(PlainGet), Request(method, body, target)));
        Assert.False(Verifies(Derived(DerivedGet), Request(method, body, target)));
    }

    [Theory]
    [InlineData("/resources/?size=1")] // the canonical path ends in '/' whether the request's does or not
    [InlineData("/%72esources?size=1")] // encoded more than needed
    [InlineData("/resources?%73ize=%31")]
    [InlineData("/resources?&size=1&")]
    [InlineData("http://service.endpoint.myhuaweicloud.com/resources?size=1")] // as a proxy is asked
    public void Another_spelling_of_the_same_target_verifies(string target)
    {
        Assert.True(Verifies(Plain(PlainGet), Request("GET", "", target)));
        Assert.True(Verifies(Derived(DerivedGet), Request("GET", "", target)));
    }

    [Theory]
    [InlineData(15, true)]
    [InlineData(-15, true)]
    [InlineData(15.02, false)]
    [InlineData(-15.02, false)]
    [InlineData(24 * 60, false)]
    [InlineData(-24 * 60, false)]
    public void A_date_is_good_for_the_clock_skew_either_way(double minutes, bool verifies)
    {
        Assert.Equal(verifies, Verifies(Plain(PlainGet), Request("GET", ""), now: SignedAt.AddMinutes(minutes)));
        Assert.Equal(verifies, Verifies(Derived(DerivedGet), Request("GET", ""), now: SignedAt.AddMinutes(minutes)));
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("2020-06-08T02:39:00Z")]
    [InlineData("20200608T023900")]
    [InlineData(" 20200608T023900Z ")]
    public void A_missing_or_odd_date_is_refused_and_the_answer_names_the_header(string? date)
    {
        var request = Request("GET", "");
        request.Headers.Remove("X-Sdk-Date");
        if (date is not null) request.Headers["X-Sdk-Date"] = date;
        Assert.True(RequestSignature.TryParse(Plain(PlainGet), out var signature));

        Assert.Contains("X-Sdk-Date", signature.Problem(request.Headers, SignedAt, Skew));
    }

    [Theory]
    [InlineData("SDK-HMAC-SHA256", "host")]
    [InlineData("SDK-HMAC-SHA256", "x-sdk-date")]
    [InlineData("V11-HMAC-SHA256", "host")]
    [InlineData("V11-HMAC-SHA256", "x-sdk-date")]
    public void A_right_signature_that_leaves_host_or_date_out_is_refused(string algorithm, string signedHeaders)
    {
        var request = Request("GET", "");
        var authorization = Signed(request, algorithm, signedHeaders);

        Assert.False(Verifies(authorization, request));
        Assert.True(Verifies(Signed(request, algorithm, "host;x-sdk-date"), request)); // only the list was wrong
    }

    [Fact]
    public void A_header_that_is_said_to_be_signed_must_be_there_and_be_as_signed()
    {
        var request = Request("GET", "");
        request.Headers["Instance-Id"] = "  i-1 ";
        var authorization = Signed(request, RequestSignature.Plain, "host;instance-id;x-sdk-date");

        Assert.True(Verifies(authorization, request));
        request.Headers["Instance-Id"] = "i-1"; // the same value, trimmed
        Assert.True(Verifies(authorization, request));
        request.Headers["Instance-Id"] = "i-2";
        Assert.False(Verifies(authorization, request));
        request.Headers.Remove("Instance-Id");
        Assert.False(Verifies(authorization, request));
    }

    [Fact]
    public void The_day_in_a_derived_credential_must_be_the_day_of_the_date()
    {
        var request = Request("GET", "");
        var yesterday = Signed(request, RequestSignature.Derived, "host;x-sdk-date", scope: "20200607/test-region-1/iotdm");

        Assert.False(Verifies(yesterday, request));
        Assert.True(Verifies(Signed(request, RequestSignature.Derived, "host;x-sdk-date", scope: "20200608/test-region-1/iotdm"), request));
    }

    [Fact]
    public void A_plain_signature_is_no_derived_one_of_the_same_key()
    {
        Assert.False(Verifies(Derived(PlainGet), Request("GET", "")));
        Assert.False(Verifies(Plain(DerivedGet), Request("GET", "")));
    }

    [Theory]
    [InlineData("")]
    [InlineData("Basic QWNjZXNzS2V5OlNlY3JldEtleQ==")]
    [InlineData("SDK-HMAC-SHA256")]
    [InlineData("SDK-HMAC-SHA256 ")]
    [InlineData("SDK-HMAC-SHA256 Access=, SignedHeaders=host;x-sdk-date, Signature=" + PlainGet)]
    [InlineData("SDK-HMAC-SHA256 Access=AccessKey, SignedHeaders=, Signature=" + PlainGet)]
    [InlineData("SDK-HMAC-SHA256 Access=AccessKey, SignedHeaders=host;x-sdk-date, Signature=")]
    [InlineData("SDK-HMAC-SHA256 Access=AccessKey, SignedHeaders=host;x-sdk-date")]
    [InlineData("SDK-HMAC-SHA256 Credential=AccessKey/20200608/r/s, SignedHeaders=host;x-sdk-date, Signature=" + PlainGet)]
    [InlineData("V11-HMAC-SHA256 Access=AccessKey, SignedHeaders=host;x-sdk-date, Signature=" + PlainGet)]
    [InlineData("V11-HMAC-SHA256 Credential=AccessKey, SignedHeaders=host;x-sdk-date, Signature=" + PlainGet)]
    [InlineData("V11-HMAC-SHA256 Credential=AccessKey/20200608/r, SignedHeaders=host;x-sdk-date, Signature=" + PlainGet)]
    [InlineData("V11-HMAC-SHA256 Credential=AccessKey/20200608/r/s/t, SignedHeaders=host;x-sdk-date, Signature=" + PlainGet)]
    [InlineData("V11-HMAC-SHA256 Credential=/20200608/r/s, SignedHeaders=host;x-sdk-date, Signature=" + PlainGet)]
    public void What_is_no_signature_is_refused(string authorization) => Assert.False(RequestSignature.TryParse(authorization, out _));

    // The canonical texts below are written by hand from the rules.
    [Theory]
    [InlineData("/v5/iot/p1/devices", "", "/v5/iot/p1/devices/", "")]
    [InlineData("/", "", "/", "")]
    [InlineData("/a%20b/%c3%bc/x.y-z_~/(1)", "", "/a%20b/%C3%BC/x.y-z_~/%281%29/", "")]
    [InlineData("/a+b", "", "/a%2Bb/", "")]
    [InlineData("/a%2Fb", "", "/a%2Fb/", "")]
    [InlineData("/%zz/%4", "", "/%25zz/%254/", "")]
    [InlineData("/a", "name=*&device_name=a%20b", "/a/", "device_name=a%20b&name=%2A")]
    [InlineData("/a", "name=%2A&device_name=a+b", "/a/", "device_name=a%20b&name=%2A")]
    [InlineData("/a", "b=2&a=3&b=1&b=10", "/a/", "a=3&b=1&b=10&b=2")]
    [InlineData("/a", "a=b=c&flag&e=", "/a/", "a=b%3Dc&e=&flag=")]
    [InlineData("/a", "a=%F0%9F%98%80&a=%EF%BC%A1", "/a/", "a=%EF%BC%A1&a=%F0%9F%98%80")] // sorted as UTF-8, not as UTF-16
    [InlineData("/a", "B=1&a=2", "/a/", "B=1&a=2")]
    public void The_path_and_the_query_are_signed_as_the_SDK_writes_them(string path, string query, string canonicalPath, string canonicalQuery)
    {
        var headers = new HeaderDictionary { ["Host"] = "h" };

        var text = CanonicalRequest.Of("GET", query.Length == 0 ? path : $"{path}?{query}", headers, "host", "hash");

        Assert.Equal($"GET\n{canonicalPath}\n{canonicalQuery}\nhost:h\n\nhost\nhash", text);
    }

    [Fact]
    public void A_header_sent_twice_is_signed_twice_in_the_order_of_its_values()
    {
        var headers = new HeaderDictionary { ["X-Tag"] = new[] { " b ", "a" }, ["Host"] = "h" };

        Assert.Equal("GET\n/\n\nhost:h\nx-tag:a\nx-tag:b\n\nhost;x-tag\nhash", CanonicalRequest.Of("GET", "/", headers, "host;x-tag", "hash"));
    }

    private const string EmptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    [Theory]
    [InlineData(null, "", true, EmptyHash)]
    [InlineData(EmptyHash, "", true, EmptyHash)]
    [InlineData("UNSIGNED-PAYLOAD", "", true, EmptyHash)]
    [InlineData("UNSIGNED-PAYLOAD", "abc", false, "UNSIGNED-PAYLOAD")]
    [InlineData("UNSIGNED-PAYLOAD", "{}", true, null)] // a JSON body must hash right
    [InlineData(EmptyHash, "{}", true, null)]
    [InlineData(EmptyHash, "abc", false, null)]
    [InlineData("unsigned-payload", "abc", false, null)]
    [InlineData("", "{}", true, null)]
    [InlineData("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD", "abc", true, "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD")]
    public void A_declared_content_hash_must_be_true_and_only_a_body_that_is_not_JSON_may_go_unsigned(string? declared, string body, bool isJson, string? hash) =>
        Assert.Equal(hash, CanonicalRequest.PayloadHash(declared, isJson, Encoding.UTF8.GetBytes(body)));

    [Fact]
    public void Declaring_a_JSON_body_unsigned_does_not_help_whoever_has_no_key()
    {
        var request = Request("POST", "{}");
        request.Headers["X-Sdk-Content-Sha256"] = "UNSIGNED-PAYLOAD";
        var authorization = Signed(request, RequestSignature.Plain, "host;x-sdk-date", payloadHash: "UNSIGNED-PAYLOAD");

        Assert.False(Verifies(authorization, request));
        request.Headers.ContentType = "application/json; charset=utf-8";
        Assert.False(Verifies(authorization, request));
        request.Headers.ContentType = "application/octet-stream";
        Assert.True(Verifies(authorization, request));
    }

    private static string Plain(string signature) => $"SDK-HMAC-SHA256 Access=AccessKey, SignedHeaders=host;x-sdk-date, Signature={signature}";

    private static string Derived(string signature) => $"V11-HMAC-SHA256 Credential=AccessKey/{Scope}, SignedHeaders=host;x-sdk-date, Signature={signature}";

    private static SignedRequest Request(string method, string body, string target = "/resources?size=1") => new(
        method,
        target,
        new HeaderDictionary { ["Host"] = "service.endpoint.myhuaweicloud.com", ["X-Sdk-Date"] = "20200608T023900Z" },
        Encoding.UTF8.GetBytes(body));

    private static bool Verifies(string authorization, SignedRequest request, DateTimeOffset? now = null) =>
        RequestSignature.TryParse(authorization, out var signature)
        && signature.AccessKey == "AccessKey"
        && signature.Problem(request.Headers, now ?? SignedAt, Skew) is null
        && signature.IsRight(request, Secret);

    // What the test's own signer makes of whatever the test made up.
    private static string Signed(SignedRequest request, string algorithm, string signedHeaders, string scope = Scope, string? payloadHash = null)
    {
        var signer = new RequestSigner("AccessKey", Secret, isDerived: algorithm == RequestSignature.Derived);
        return signer.Authorization(
            request.Method, "/resources/", "size=1", [.. signedHeaders.Split(';').Select(name => (name, request.Headers[name].ToString()))], "20200608T023900Z",
            payloadHash ?? RequestSigner.Hash(request.Body.ToArray()), scope);
    }
}
