using System.Data.Common;

namespace IoTDelivery.Registry;

/// <summary>An insert that may find its key taken. The three databases word that error differently, so the row itself is asked.</summary>
internal static class UniqueInsert
{
    public static async Task<bool> TryAsync(Func<Task<int>> insert, Func<Task<bool>> exists)
    {
        if (await exists()) return false;
        try
        {
            await insert();
            return true;
        }
        catch (DbException)
        {
            if (await exists()) return false;
            throw;
        }
    }
}
