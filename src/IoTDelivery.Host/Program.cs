using IoTDelivery.Host;

// A command begins with its word (or asks for help); settings begin with dashes, and with them or with nothing this is the platform.
return Commands.Owns(args) ? await Commands.RunAsync(args) : await Platform.RunAsync(args);
