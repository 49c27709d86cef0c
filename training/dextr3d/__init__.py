"""models/dextr3d: any structure of a volume, from six extreme points."""
