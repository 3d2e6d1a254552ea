using IoTDelivery.Host;

// The table of contents: `demo` plays the whole story by itself, everything else is the platform.
return args is ["demo", .. var rest] ? await Demo.RunAsync(rest) : await Platform.RunAsync(args);
