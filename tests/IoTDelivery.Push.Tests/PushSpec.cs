using Akka.TestKit.Xunit2;
using IoTDelivery.Tests.Databases;

namespace IoTDelivery.Push.Tests;

/// <summary>What runs on every database.</summary>
public abstract class PushSpec(TestDatabase server) : TestKit
{
    internal async Task<PushWorld> WorldAsync(Action<PushOptions>? change = null, bool drains = true)
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        return await PushWorld.StartAsync(Sys, await server.CreateAsync(), change, drains);
    }
}
